"""Who is there, and with what: the questions before the first round.

    greet    each site's numbers of records, own or the study's, before there is a plan
    enrol    whether the site takes part in this training, by its own limits, and with which weight

Sites with records of their own make a plan that knows numbers alone; a rehearsal's plan is that of a simulation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from consilium.core.errors import Failed, Refused
from consilium.core.plain import Json
from consilium.core.records import Consortium
from consilium.deploy.protocol import messages as wire
from consilium.deploy.protocol.description import describe
from consilium.deploy.protocol.enrolment import Enrolment, decode_enrolment
from consilium.deploy.protocol.framing import Bounds, unpack
from consilium.deploy.protocol.schema import check_agreed, read_schema
from consilium.deploy.transport.flower import Caller, message_bytes, refusal_of
from consilium.deploy.transport.server_options import ServerOptions
from consilium.federate.client.participation import Participation
from consilium.monitor.progress import Planning
from consilium.study.build.factory import consortium
from consilium.study.plan.plan import Plan, make_plan
from consilium.study.spec.arms import arms
from consilium.study.spec.parse import parse, read
from consilium.study.spec.spec import Spec, TrainingSpec

from .remote_sites import elsewhere

if TYPE_CHECKING:
    from flwr.app import Message

__all__ = ["check_deployable", "declaration_check", "enrol", "greet", "named", "plan_for", "read_deployed"]

_NOTHING: Mapping[str, bytes] = MappingProxyType({})
_LEFT_OUT: Mapping[str, Json] = {"seeds": [0], "vary": {}, "attacks": [], "corruptions": []}
"""What a study file may leave out, as evidence has it."""
_AGAIN = 2.0
"""Seconds until a rejected site is queried again."""


def read_deployed(path: Path) -> Spec:
    """The study in a file, with what it may leave out."""
    return parse({**_LEFT_OUT, **read(path)}, (path.parent,))


def check_deployable(spec: Spec) -> TrainingSpec:
    """``spec``, as the study with a training that it is; refused where it makes no sense among real sites.

    Raises Refused: the study simulates what a deployment cannot have.
    """
    if not isinstance(spec, TrainingSpec):
        raise Refused("a study of a trained model trains nothing", remedy="run it: consilium run", where="model")
    if spec.corruptions:
        raise Refused(
            "a deployment cannot simulate corruptions",
            remedy="remove [[corruptions]], or simulate the study with `run`",
            where="corruptions",
        )
    if spec.canaries is not None:
        reason = "an audit's canaries are planted among records, which stay at the sites"
        raise Refused(reason, remedy="leave [audit] out, or simulate the study with `run`", where="audit")
    presence = spec.federation.shape.participation
    if replace(presence, sampling="fixed", minimum_cohort=1) != Participation():
        reason = "a deployment does not simulate absence, dropouts or stragglers"
        raise Refused(reason, remedy="set only sampling and minimum-cohort", where="federation.participation")
    for arm in arms(spec):
        if any(merge.per_site for merge in arm.merge):
            reason = "the server's noise and cohorts follow from the study's seed, which every site receives"
            raise Refused(reason, remedy="simulate it with `run`", where="vary")
        algorithm = arm.federation(spec).algorithm
        if algorithm.personal:
            reason = f"{algorithm.kind()} makes a model for each site, which a deployment cannot evaluate"
            raise Refused(reason, remedy="simulate it with `run`", where="federation")
    return spec


def greet(
    caller: Caller, options: ServerOptions, spec: TrainingSpec, data: Consortium, names: Sequence[str]
) -> dict[str, Enrolment]:
    """What every site has; refused by name beyond what the study allows."""
    caller.say(f"waiting for {', '.join(names)}")
    return enrol(caller, options, _first(spec, data, names), names, declaration_check(spec), {"greet": b"-"})


def declaration_check(spec: TrainingSpec) -> Callable[[Enrolment], None]:
    """Whether a declaration is within what the study allows."""
    most = spec.federation.shape.max_records
    return lambda one: one.check_bounds(most)


def plan_for(spec: TrainingSpec, greeted: Mapping[str, Enrolment]) -> Plan:
    """The plan for sites with records of their own, or for a rehearsal on the study's.

    Raises Refused: sites with own data and rehearsing ones, or an attack that needs the sites' records.
    """
    if len({one.own for one in greeted.values()}) > 1:
        shared = ", ".join(site for site, one in greeted.items() if not one.own)
        raise Refused(
            f"{shared} use the study's data (rehearsal), the other sites their own",
            remedy="start all sites with the same kind of --data",
        )
    if not next(iter(greeted.values())).own:
        return _rehearsal(spec, greeted)
    for attack in spec.attacks:
        if attack.attack.threat.aim == "membership":
            reason = f"{attack.name} needs the records of members, which stay at the sites"
            raise Refused(reason, remedy="leave it out, or simulate the study with `run`", where="attacks")
    declared = tuple(greeted.values())
    gathered = lru_cache(maxsize=3)(lambda seed: elsewhere(consortium(spec, seed), declared))
    return make_plan(spec, gathered, Planning())


def enrol(
    caller: Caller,
    options: ServerOptions,
    request: wire.StudyRequest,
    sites: Sequence[str],
    accept: Callable[[Enrolment], None] = lambda _: None,
    more: Mapping[str, bytes] = _NOTHING,
) -> dict[str, Enrolment]:
    """Every site's declaration; refused, naming the site, where its own limits forbid the study.

    An enrolment that is no enrolment of that site, or that ``accept`` refuses, rejects that site alone: it is queried
    again until ``options.gather`` is over, since its operator may restart it.

    Raises Refused: a site's limits forbid the study.  Raises Failed: a site did not enrol in time.
    """
    digest, question = request.digest(), wire.encode_request(request)
    parts, schema = {"request": question, "question": question, **more}, read_schema(request.plan)
    end, enrolments, rejections = time.monotonic() + options.gather, dict[str, Enrolment](), dict[str, str]()

    def read(site: str, reply: Message) -> Enrolment | Refused:
        data = message_bytes(reply, "answer")
        if (refusal := refusal_of(site, data, digest)) is not None:
            return refusal
        one = decode_enrolment(data, digest, site)
        accept(one)
        check_agreed(schema, {site: one.inputs})
        return one

    while missing := [site for site in sites if site not in enrolments]:
        patient = replace(caller, deadline=max(0.0, end - time.monotonic()))
        answers, wrong = patient.ask(missing, parts, read, "enrolment")
        for site, answer in answers.items():
            if isinstance(answer, Refused):
                raise Refused(f"{site} refuses: {answer}", remedy="change the study, or leave the site out", where=site)
            enrolments[site] = answer
        for site, complaint in wrong.items():
            why = complaint.removeprefix(f"{site}: ")
            if rejections.get(site) != why:
                caller.say(f"{site} is rejected: {why} Waiting for it to enrol correctly")
            rejections[site] = why
        if time.monotonic() >= end:
            raise _incomplete([site for site in missing if site not in enrolments], rejections, options)
        if wrong:
            time.sleep(min(_AGAIN, max(0.0, end - time.monotonic())))
    check_agreed(schema, {site: enrolments[site].inputs for site in sites})
    caller.say(", ".join(f"{site} has {enrolments[site].train} records" for site in sites))
    return {site: enrolments[site] for site in sites}


def _incomplete(missing: Sequence[str], rejections: Mapping[str, str], options: ServerOptions) -> Failed:
    """Failed, not Refused: a site that did not enrol does not make the study invalid, and a restart may succeed."""
    wrong = "".join(f"; {site} was rejected: {rejections[site].rstrip('.')}" for site in missing if site in rejections)
    reason = f"{', '.join(missing)} did not enrol in {options.gather:.0f} s{wrong}"
    return Failed(reason, remedy="start these sites, and run `serve` again")


def named(
    caller: Caller, options: ServerOptions, spec: TrainingSpec, data: Consortium, names: Sequence[str]
) -> dict[str, int]:
    """Without keys a site is identified by the name it sends: query each new node until all names are there.

    Raises Failed: a site did not connect in time.
    """
    question, nodes = wire.encode_request(_first(spec, data, names)), dict[str, int]()
    parts = {"request": question, "question": question, "greet": b"-"}
    end = time.monotonic() + options.gather
    while set(nodes) != set(names):
        if time.monotonic() > end:
            raise Failed(
                f"{', '.join(set(names) - set(nodes))} did not connect within {options.gather:.0f} s",
                remedy="start these sites, and run `serve` again",
            )
        caller.alive()
        new = {f"node {node}": node for node in set(caller.grid.get_node_ids()) - set(nodes.values())}
        answers, _ = replace(caller, nodes=new, deadline=10.0, waits=lambda *_: None).ask(
            list(new), parts, _name, "names"
        )
        nodes |= {site: new[node] for node, site in answers.items() if site in names}
        time.sleep(0.5)
    return nodes


def _name(_: str, reply: Message) -> str:
    return str(unpack(message_bytes(reply, "answer"), Bounds()).header.get("site"))


def _first(spec: TrainingSpec, data: Consortium, names: Sequence[str]) -> wire.StudyRequest:
    return describe(spec, arms(spec)[0], spec.seeds[0], "", data, names)


def _rehearsal(spec: TrainingSpec, greeted: Mapping[str, Enrolment]) -> Plan:
    plan = make_plan(spec)
    names = [site.id for site in plan.materials.consortium(spec.seeds[0]).sites]
    if set(names) != set(greeted):
        raise Refused(
            f"the key folder names the sites {', '.join(greeted)}, the study the sites {', '.join(names)}",
            remedy="put exactly one ID.pub for each site of the study into the key folder",
        )
    return plan
