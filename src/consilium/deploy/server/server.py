"""`consilium serve`: the server of a federation of real machines.

    site --TLS--> gateway --TLS, loopback--> link (Flower's SuperLink) <--loopback-- this process

The link listens on the loopback only and keeps its state in a private database; the gateway is the one port that
others reach.  This process starts both, registers the sites' keys, starts a run and is its one server: it trains the
study's arms as `run` would, with the engine flower.  It goes on from its own checkpoint; the link's state is only what
is on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from consilium.core.charge import Charge, Composed
from consilium.core.errors import Refused
from consilium.core.records import Consortium
from consilium.deploy.protocol.description import describe
from consilium.deploy.protocol.enrolment import Enrolment
from consilium.deploy.protocol.schema import check_declared
from consilium.deploy.transport.certificates import roster, server_keys
from consilium.deploy.transport.flower import Caller, Deployment, Flower
from consilium.deploy.transport.flower_server import linked
from consilium.deploy.transport.processes import require_flower
from consilium.deploy.transport.server_options import ServerOptions
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.round.round import FederatedRound, RoundExchange
from consilium.federate.round.weights import check_weight, site_weights
from consilium.study.build.engine_choice import write_engine_record
from consilium.study.build.factory import consortium, enrolled, gradient_rule, schedule, weighing
from consilium.study.plan.nodes import TrainingNode
from consilium.study.plan.plan import Plan
from consilium.study.plan.stage_keys import constants_mark
from consilium.study.progress.outcome import Outcome
from consilium.study.run.run import run_plan
from consilium.study.spec.spec import Spec
from consilium.study.stages.context import Carrier, Waits
from consilium.study.store.store import Store

from .enrolment_handshake import check_deployable, declaration_check, enrol, greet, named, plan_for, read_deployed

__all__ = ["serve", "serve_study"]


def serve_study(
    study: Path, out: Path, options: ServerOptions, command: str, say: Callable[[str], None]
) -> tuple[Path, Outcome]:
    """Train the study in a file; returns its folder."""
    options.check()
    store, outcome = serve(read_deployed(study), out, options, command, say)
    return store.folder, outcome


def serve(
    spec: Spec, out: Path, options: ServerOptions, command: str, say: Callable[[str], None]
) -> tuple[Store, Outcome]:
    """Train every arm of ``spec`` with the sites that hold a key; the folder is that of a run."""
    require_flower()
    options.check()
    study = check_deployable(spec)
    store = Store.of(out, spec.name)
    keys = None if options.keys is None else server_keys(options.keys)
    data = consortium(spec, spec.seeds[0])
    check_declared(data)
    public_keys = {} if keys is None else roster(keys)
    names = list(public_keys) if public_keys else [site.id for site in data.sites]
    with linked(store.folder / "link", options, keys) as link, link.seat(public_keys, say) as seated:
        known = seated.nodes if public_keys else named(seated, options, study, data, names)
        caller = replace(seated, nodes=known)
        plan = plan_for(study, greet(caller, options, study, data, names))
        return store, run_plan(plan, store, command, carrier=_carrier(plan, store, caller, options))


def _carrier(plan: Plan, store: Store, caller: Caller, options: ServerOptions) -> Carrier:
    def make(node: TrainingNode, whole: RoundExchange, _: Assessing, waits: Waits) -> tuple[Flower, RoundExchange]:
        data = plan.materials.consortium(node.seed)
        names = [site.id for site in data.sites]
        constants = constants_mark(plan.materials.network(node.seed, node.arm))
        request = describe(node.spec, node.arm, node.seed, node.digest, data, names, constants)
        there = enrol(caller, options, request, names, _acceptable(node, data))
        charges = {site: _charge(node, one) for site, one in there.items()}
        note = partial(write_engine_record, store.training(node.digest))
        records = {site: one.train for site, one in there.items()}
        units = {site: one.units or one.train for site, one in there.items()}
        served = enrolled(node.spec, node.arm, whole, records, units)
        assert isinstance(served, FederatedRound)
        held_out = {site: one.validation for site, one in there.items()}
        deployment = Deployment(request, served.half.weights, charges, note, records, held_out)
        return Flower(replace(caller, waits=waits), deployment), served

    return make


def _acceptable(node: TrainingNode, data: Consortium) -> Callable[[Enrolment], None]:
    """A check that a declaration agrees with the plan, and its weight with the one that the server computes."""
    within, federation = declaration_check(node.spec), node.federation
    shares = {site.id: site.records for site in data.sites}

    def check(one: Enrolment) -> None:
        within(one)
        if one.own != data.declared:
            raise Refused(
                "the site enrolled with other data than it declared first",
                remedy="restart it with the same --data",
                where=one.site,
            )
        if not one.own:
            one.check_same(len(shares[one.site].train), len(shares[one.site].validation))
        check_weight(one.site, one.weight, site_weights({one.site: one.train}, weighing(federation)))

    return check


def _charge(node: TrainingNode, one: Enrolment) -> Charge | None:
    """What one round costs a site with so many records or units."""
    rule = gradient_rule(node.arm)
    work = schedule(node.federation, rule)
    n = one.train if rule.unit == "example" else one.units or one.train
    step = rule.step_charge(n, work)
    return None if step is None else Composed(step, work.steps(n))
