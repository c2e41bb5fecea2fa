"""Who is there, and with what: the questions before the first round.

    greet    what does every site have?  before there is a plan: numbers of records, own or the study's
    enrol    does it take part in this training, by its own limits?  and with which weight

Sites with records of their own make a plan that knows numbers alone; a rehearsal's plan is that of a simulation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from consilium.core.errors import Failed, Refused
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
from consilium.study.spec.spec import Spec

from .remote_sites import elsewhere

if TYPE_CHECKING:
    from flwr.app import Message

__all__ = ["check_deployable", "declaration_check", "enrol", "greet", "named", "plan_for"]

_NOTHING: Mapping[str, bytes] = MappingProxyType({})
_AGAIN = 2.0
"""Seconds until a site that was turned away is asked again."""


def check_deployable(spec: Spec) -> None:
    """Refuse what makes no sense among real sites."""
    if spec.federation is None:
        raise Refused("a study of a trained model trains nothing", remedy="run it: consilium run", where="model")
    if spec.corruptions:
        raise Refused("a deployment infects nobody", remedy="simulate corruptions with `run`", where="corruptions")
    if spec.canaries is not None:
        reason = "an audit's canaries are planted among records, which stay at the sites"
        raise Refused(reason, remedy="leave [audit] out, or simulate the study with `run`", where="audit")
    presence = spec.federation.shape.participation
    if replace(presence, sampling="fixed", minimum_cohort=1) != Participation():
        reason = "absence, dropouts and stragglers are simulated, and real sites have their own"
        raise Refused(reason, remedy="keep sampling and minimum-cohort alone", where="federation.participation")
    for arm in arms(spec):
        if any(merge.per_site for merge in arm.merge):
            reason = "the server's noise and cohorts follow from the study's seed, which every site is told"
            raise Refused(reason, remedy="simulate it with `run`", where="vary")
        federation = arm.study(spec).federation
        if federation is not None and federation.algorithm.personal:
            reason = f"{federation.algorithm.kind()} makes a model for each site, which stays there unjudged"
            raise Refused(reason, remedy="simulate it with `run`", where="federation")


def greet(
    caller: Caller, options: ServerOptions, spec: Spec, data: Consortium, names: Sequence[str]
) -> dict[str, Enrolment]:
    """What every site has; refused by name beyond what the study allows."""
    caller.say(f"waiting for {', '.join(names)}")
    return enrol(caller, options, _first(spec, data, names), names, declaration_check(spec), {"greet": b"-"})


def declaration_check(spec: Spec) -> Callable[[Enrolment], None]:
    """Whether a declaration is within what the study allows."""
    assert spec.federation is not None
    most = spec.federation.shape.max_records
    return lambda one: one.check_bounds(most)


def plan_for(spec: Spec, greeted: Mapping[str, Enrolment]) -> Plan:
    """The plan for sites with records of their own, or for a rehearsal on the study's."""
    if len({one.own for one in greeted.values()}) > 1:
        shared = ", ".join(site for site, one in greeted.items() if not one.own)
        raise Refused(f"{shared} rehearse, and the others have records of their own", remedy="join all in one way")
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
    """Every site's declaration; refused by name where a site says no by its own limits.

    An enrolment that is no enrolment of that site, or that ``accept`` refuses, turns that site away alone: it is asked
    again until ``options.gather`` is over, for its operator may start it anew.
    """
    digest, question = request.digest(), wire.encode_request(request)
    parts, schema = {"request": question, "question": question, **more}, read_schema(request.plan)
    end, came, turned = time.monotonic() + options.gather, dict[str, Enrolment](), dict[str, str]()

    def read(site: str, reply: Message) -> Enrolment | Refused:
        data = message_bytes(reply, "answer")
        if (said := refusal_of(site, data, digest)) is not None:
            return said
        one = decode_enrolment(data, digest, site)
        accept(one)
        check_agreed(schema, {site: one.inputs})
        return one

    while missing := [site for site in sites if site not in came]:
        patient = replace(caller, deadline=max(0.0, end - time.monotonic()))
        answers, wrong = patient.ask(missing, parts, read, "enrolment")
        for site, answer in answers.items():
            if isinstance(answer, Refused):
                raise Refused(f"{site} refuses: {answer}", remedy="change the study, or leave the site out", where=site)
            came[site] = answer
        for site, told_why in wrong.items():
            why = told_why.removeprefix(f"{site}: ")
            if turned.get(site) != why:
                caller.say(f"{site} is turned away: {why} Waiting for it to come as itself")
            turned[site] = why
        if time.monotonic() >= end:
            raise _incomplete([site for site in missing if site not in came], turned, options)
        if wrong:
            time.sleep(min(_AGAIN, max(0.0, end - time.monotonic())))
    check_agreed(schema, {site: came[site].inputs for site in sites})
    caller.say(", ".join(f"{site} has {came[site].train} records" for site in sites))
    return {site: came[site] for site in sites}


def _incomplete(missing: Sequence[str], turned: Mapping[str, str], options: ServerOptions) -> Failed:
    """A site that did not come as itself is no study that cannot be served: whoever restarts the server may do so."""
    wrong = "".join(f"; {site} was turned away: {turned[site].rstrip('.')}" for site in missing if site in turned)
    reason = f"{', '.join(missing)} did not come in {options.gather:.0f} s{wrong}"
    return Failed(reason, remedy="start them, and serve again")


def named(caller: Caller, options: ServerOptions, spec: Spec, data: Consortium, names: Sequence[str]) -> dict[str, int]:
    """Without keys a site is who it says it is: ask every node that comes, until all names are there."""
    question, found = wire.encode_request(_first(spec, data, names)), dict[str, int]()
    parts = {"request": question, "question": question, "greet": b"-"}
    end = time.monotonic() + options.gather
    while set(found) != set(names):
        if time.monotonic() > end:
            raise Failed(f"{', '.join(set(names) - set(found))} did not come", remedy="start them, and serve again")
        caller.alive()
        new = {f"node {node}": node for node in set(caller.grid.get_node_ids()) - set(found.values())}
        came, _ = replace(caller, nodes=new, deadline=10.0, waits=lambda *_: None).ask(list(new), parts, _name, "names")
        found |= {site: new[node] for node, site in came.items() if site in names}
        time.sleep(0.5)
    return found


def _name(_: str, reply: Message) -> str:
    return str(unpack(message_bytes(reply, "answer"), Bounds()).header.get("site"))


def _first(spec: Spec, data: Consortium, names: Sequence[str]) -> wire.StudyRequest:
    return describe(spec, arms(spec)[0], spec.seeds[0], "", data, names)


def _rehearsal(spec: Spec, greeted: Mapping[str, Enrolment]) -> Plan:
    made = make_plan(spec)
    names = [site.id for site in made.materials.consortium(spec.seeds[0]).sites]
    if set(names) != set(greeted):
        raise Refused(
            f"keys are there for {', '.join(greeted)}, and the study's sites are {', '.join(names)}",
            remedy="one ID.pub for each site of the study, and no other",
        )
    return made
