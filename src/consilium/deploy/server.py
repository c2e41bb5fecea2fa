"""`consilium serve`: the server of a federation of real machines.

    site --TLS--> front door --TLS, loopback--> link (Flower's SuperLink) <--loopback-- this process

The link listens on the loopback only and keeps its state in a private database; the front door is the one port that
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
from consilium.federate.assess import Assessing
from consilium.federate.engines.flower import Caller, Deployment, Flower
from consilium.federate.round import FederatedRound, RoundExchange
from consilium.study.build import consortium, gradient_rule, schedule
from consilium.study.engines import write_engine_record
from consilium.study.parse import parse
from consilium.study.plan import Plan, TrainingNode
from consilium.study.run import Outcome, Waits, run_plan
from consilium.study.spec import FederationSpec, Spec
from consilium.study.store import Store
from consilium.study.study import Study

from .description import describe
from .enrolment import Enrolment
from .greeting import check_deployable, enrol, greet, named, plan_for
from .keys import roster, server_keys
from .processes import require_flower
from .schema import check_declared
from .superlink import linked
from .terms import Terms

__all__ = ["serve", "serve_study"]


def serve_study(study: Path, out: Path, terms: Terms, command: str, say: Callable[[str], None]) -> tuple[Path, Outcome]:
    """Train the study in a file; returns its folder."""
    terms.check()
    store, outcome = serve(parse(Study.read(study).table()), out, terms, command, say)
    return store.folder, outcome


def serve(spec: Spec, out: Path, terms: Terms, command: str, say: Callable[[str], None]) -> tuple[Store, Outcome]:
    """Train every arm of ``spec`` with the sites that hold a key; the folder is that of a run."""
    require_flower()
    terms.check()
    check_deployable(spec)
    store = Store.of(out, spec.name)
    keys = None if terms.keys is None else server_keys(terms.keys)
    data = consortium(spec, spec.seeds[0])
    check_declared(data)
    held = {} if keys is None else roster(keys)
    names = list(held) if held else [site.id for site in data.sites]
    with linked(store.folder / "link", terms, keys) as link, link.seat(held, say) as seated:
        known = seated.nodes if held else named(seated, terms, spec, data, names)
        caller = replace(seated, nodes=known)
        plan = plan_for(spec, greet(caller, terms, spec, data, names))
        return store, run_plan(plan, store, command, carrier=_carrier(plan, store, caller, terms))


def _carrier(
    plan: Plan, store: Store, caller: Caller, terms: Terms
) -> Callable[[TrainingNode, RoundExchange, Assessing, Waits], Flower]:
    def make(node: TrainingNode, whole: RoundExchange, _: Assessing, waits: Waits) -> Flower:
        data = plan.materials.consortium(node.seed)
        names = [site.id for site in data.sites]
        request = describe(plan.spec, node.arm, node.seed, node.digest, data, names)
        enrolled = enrol(caller, terms, request, names)
        assert isinstance(whole, FederatedRound)
        weights = {site: enrolment.weight for site, enrolment in enrolled.items()}
        charges = {site: _charge(plan, node, enrolment) for site, enrolment in enrolled.items()}
        note = partial(write_engine_record, store.training(node.digest))
        records = {site: enrolment.train for site, enrolment in enrolled.items()}
        return Flower(replace(caller, waits=waits), Deployment(request, weights, charges, note, records))

    return make


def _charge(plan: Plan, node: TrainingNode, enrolled: Enrolment) -> Charge | None:
    """What one round costs a site with so many records or units."""
    federation = node.arm.study(plan.spec).federation
    assert isinstance(federation, FederationSpec)
    rule = gradient_rule(node.arm)
    work = schedule(federation, rule)
    n = enrolled.train if rule.unit == "example" else enrolled.units or enrolled.train
    step = rule.step_charge(n, work)
    return None if step is None else Composed(step, work.steps(n))
