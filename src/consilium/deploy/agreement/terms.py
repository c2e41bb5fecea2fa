"""The terms of a study for one site, worked out before anybody has joined: what each training sends and costs.

The plan is that of a deployment in which every site has as many records as this one.  What earlier studies have spent
is known to the site's ledger alone and is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consilium.core.charge import Charge, Composed
from consilium.core.errors import Refused
from consilium.core.rounding import round_up
from consilium.deploy.protocol.description import describe
from consilium.deploy.protocol.enrolment import Enrolment
from consilium.deploy.protocol.messages import StudyRequest
from consilium.deploy.protocol.schema import Schema, check_declared
from consilium.deploy.server.enrolment_handshake import check_deployable, declaration_check, plan_for, read_deployed
from consilium.deploy.site.ledger import Budget, cost_alone
from consilium.deploy.site.policy import SiteLimits, check_request, read_limits
from consilium.deploy.transport.certificates import roster, server_keys
from consilium.federate.round.weights import site_weights
from consilium.measure.accounting.privacy import Claim, epsilon
from consilium.study.build.factory import algorithm, consortium, gradient_rule, schedule, weighing
from consilium.study.plan.nodes import TrainingNode
from consilium.study.plan.plan import Plan
from consilium.study.plan.stage_keys import constants_mark
from consilium.study.spec.spec import Spec, TrainingSpec

from .fingerprints import fingerprints

__all__ = ["Counts", "SiteTerms", "TrainingTerms", "read_terms", "site_terms"]

_BYTES = 4
"""Of a number in an update."""


@dataclass(frozen=True)
class Counts:
    """What a site would declare: its training records, and the patients they are of (0: each is its own)."""

    records: int
    patients: int = 0


@dataclass(frozen=True, eq=False)
class TrainingTerms:
    """One training: its request, the numbers that one update holds, its claims, and why the site refuses it."""

    request: StudyRequest
    arm: str
    seed: int
    numbers: int
    claims: tuple[Claim, ...]
    charge: Charge | None
    refusal: Refused | None

    @property
    def bytes(self) -> int:
        """Of one update as float32, before any compression."""
        return _BYTES * self.numbers


@dataclass(frozen=True, eq=False)
class SiteTerms:
    """All trainings of a study for one ``site`` among ``sites``; ``limits`` None: the site has given none."""

    site: str
    sites: tuple[str, ...]
    counts: Counts
    limits: SiteLimits | None
    trainings: tuple[TrainingTerms, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the study, by which a site's limits can name it."""
        return self.trainings[0].request.study_digest()

    def together(self) -> tuple[float, float, str] | None:
        """Epsilon, delta and unit of all trainings on the same records; None where one of them has no bound."""
        charges = [one.charge for one in self.trainings]
        units = {claim.unit for one in self.trainings for claim in one.claims if claim.unit != "label"}
        if len(units) != 1 or any(charge is None for charge in charges):
            return None
        delta = max(claim.delta for one in self.trainings for claim in one.claims if claim.unit != "label")
        spent = epsilon([charge for charge in charges if charge is not None], delta).epsilon
        return None if math.isinf(spent) else (spent, delta, units.pop())


def read_terms(
    study: Path, site: str, counts: Counts, limits: Path | None, keys: Path | None
) -> tuple[SiteTerms, tuple[str, ...]]:
    """The terms of a study in a file, with the sites that have a key, and lines about those ``keys``.

    Raises Refused: a file cannot be used, or the site has no key.
    """
    site_limits = None if limits is None else read_limits(limits)
    spec = read_deployed(study)
    if keys is None:
        return site_terms(spec, site, counts, (), site_limits), ()
    files = server_keys(keys)
    public_keys = roster(files)
    terms = site_terms(spec, site, counts, tuple(public_keys), site_limits)
    return terms, fingerprints(files.ca.read_bytes(), public_keys[site])


def site_terms(
    spec: Spec, site: str, counts: Counts, sites: Sequence[str] = (), limits: SiteLimits | None = None
) -> SiteTerms:
    """The terms of ``spec`` for ``site``; ``sites`` are all that take part, those of the study's own data by default.

    Raises Refused: the study cannot be deployed, has no such site, or a law forbids all of it.
    """
    study = check_deployable(spec)
    data = consortium(study, study.seeds[0])
    check_declared(data)
    names = tuple(sites) or tuple(one.id for one in data.sites)
    if site not in names:
        raise Refused(f"the study has no site {site!r}", remedy=f"name one of {', '.join(names)}", where="site")
    plan = plan_for(study, {name: _enrolment(study, name, counts, Schema.of(data).digest()) for name in names})
    if not plan.trainings:
        first, rule = next(iter(plan.refused.items()))
        raise Refused(f"arm '{first}': {rule.reason} (LAWS {rule.law})", remedy=rule.remedy)
    trainings = (_training(plan, node, site, names, counts, limits) for node in plan.trainings.values())
    return SiteTerms(site, names, counts, limits, tuple(trainings))


def _enrolment(study: TrainingSpec, name: str, counts: Counts, inputs: str) -> Enrolment:
    weight = site_weights({name: counts.records}, weighing(study.federation))[name]
    one = Enrolment(name, counts.records, 0, weight, True, counts.patients, inputs)
    declaration_check(study)(one)
    return one


def _training(
    plan: Plan, node: TrainingNode, site: str, names: Sequence[str], counts: Counts, limits: SiteLimits | None
) -> TrainingTerms:
    data, net = plan.materials.consortium(node.seed), plan.materials.network(node.seed, node.arm)
    request = describe(node.spec, node.arm, node.seed, node.digest, data, names, constants_mark(net))
    server = algorithm(node.spec, node.arm, net).start(net, len(names))
    charge = _charge(node, counts)
    shapes = algorithm(node.spec, node.arm, net).expects(server)
    return TrainingTerms(
        request,
        node.arm.name,
        node.seed,
        sum(math.prod(shape) for shape in shapes.values()),
        tuple(claim for claim in plan.claims[node.digest] if claim.site == site),
        charge,
        _refusal(request, limits or SiteLimits(), charge),
    )


def _charge(node: TrainingNode, counts: Counts) -> Charge | None:
    rule = gradient_rule(node.arm)
    work = schedule(node.federation, rule)
    n = counts.records if rule.unit == "example" else counts.patients or counts.records
    step = rule.step_charge(n, work)
    return None if step is None else Composed(step, node.rounds * work.steps(n))


def _refusal(request: StudyRequest, limits: SiteLimits, charge: Charge | None) -> Refused | None:
    """Why the limits refuse it, of records that have spent nothing yet."""
    try:
        check_request(request, limits)
        _check_budget(limits.budget, charge)
    except Refused as error:
        return error
    return None


def _check_budget(budget: Budget, charge: Charge | None) -> None:
    most, cost = budget.epsilon, math.inf if charge is None else cost_alone([charge], budget)
    if most is None or cost <= most * (1 + 1e-9):
        return
    bound = "has no bound" if math.isinf(cost) else f"costs epsilon {round_up(cost)}"
    raise Refused(
        f"the training {bound} per {budget.unit}, and these records may spend at most epsilon {most:g}",
        remedy="add dp-sgd of that unit to the study, or more of its noise",
        where="budget.epsilon",
    )
