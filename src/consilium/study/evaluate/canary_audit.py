"""The scorer of an audit: it alone knows the coins, and compares the audited bound with the claim (LAWS 16).

    claimed {epsilon, delta, unit, adjacency, sampler, accountant}  |  audited {bound, confidence, canaries, assumption}

Only the bound that assumes nothing can break a claim, at confidence 1 - 0.05 / (audits of claims in the study); one
that takes a Gaussian mechanism for granted warns.  A canary is one example or patient more or less, so their claims of
add-or-remove-one are compared, and a bound above one of another adjacency warns as well.  Its site is there either way
and sends something else, so a claim of sites is compared at the epsilon of replacing one.  A claim of labels says
nothing of who is in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from consilium.core.finding import Finding, Measure
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.core.rounding import round_down, round_up
from consilium.core.threat import CanaryView, ThreatModel
from consilium.evidence.audit import AuditBound, AuditEvidence, ClaimTerms
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.privacy import ClaimEvidence
from consilium.evidence.threat import ThreatEvidence
from consilium.measure.audit import Bound, one_run
from consilium.measure.audit_gaussian import gaussian
from consilium.measure.ranking import auc_interval
from consilium.study.plan.plan import Plan
from consilium.study.plan.privacy_claims import EVERY_SITE
from consilium.study.spec.canary_spec import CanarySpec
from consilium.study.spec.spec import AttackSpec

from .views import audited

__all__ = ["Auditor", "broken", "made_audits"]

_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class Auditor:
    """Judges the guesses on one model whose training made ``claims``."""

    how: CanarySpec
    confidence: float
    claims: Sequence[ClaimEvidence]

    @classmethod
    def of(cls, plan: Plan, attack: AttackSpec, claims: Sequence[ClaimEvidence]) -> Auditor | None:
        """None where ``attack`` guesses no canaries."""
        if plan.spec.canaries is None or attack.attack.needs is not CanaryView:
            return None
        return cls(plan.spec.canaries, 1 - _ERROR / max(1, _audits(plan)), claims)

    def configuration(self) -> Mapping[str, object]:
        """What a figure depends on beside the scores, canonical JSON."""
        return {**self.how.configuration(), "confidence": self.confidence}

    def judge(
        self, finding: Finding, adversary: ThreatModel, data: Consortium, sites: tuple[str, ...], stream: Stream
    ) -> tuple[Finding, AuditEvidence]:
        """The finding with its figures, and the record of the audit of the canaries at ``sites``.

        ``finding.scores["score"]`` is ``(m,)``.
        """
        canaries, scores = audited(data, sites), finding.scores["score"]
        claim = self._claim({data.sites[k].id for k in set(canaries.site.tolist())})
        delta = self.how.delta if claim is None or claim.delta is None else float(claim.delta)
        bound = one_run(scores, canaries.included, delta=delta, confidence=self.confidence, shares=self.how.guesses)
        tighter = gaussian(scores, canaries.included, delta=delta, confidence=self.confidence)
        record = _record(claim, bound, tighter, adversary)
        measures = (*finding.measures, *_measures(bound, tighter), _auc(scores, canaries.included, stream))
        tensors = {**finding.scores, "member": canaries.included}
        return Finding(measures, tensors, finding.examples, (*finding.notes, *record.notes)), record

    def _claim(self, sites: set[str]) -> ClaimEvidence | None:
        """The weakest, over sites that hold canaries, of what is claimed most strongly of each."""
        strongest = []
        for site in sites:
            site_claims = [c for c in self.claims if c.site in {site, EVERY_SITE} and c.unit != "label"]
            strongest += sorted(site_claims, key=lambda c: (not _comparable(c), _against(c)))[:1]
        return max(strongest, key=lambda c: (_comparable(c), _against(c)), default=None)


def broken(findings: Mapping[str, FindingEvidence]) -> dict[str, str]:
    """Why each audit among ``findings`` fails its cell."""
    return {name: str(a.verdict) for name, a in made_audits(findings).items() if a.exceeded}


def made_audits(findings: Mapping[str, FindingEvidence]) -> dict[str, AuditEvidence]:
    """The records of the audits among ``findings``, by the attack's name."""
    return {name: finding.audit for name, finding in findings.items() if finding.audit is not None}


def _audits(plan: Plan) -> int:
    """How many bounds of this study may fail a cell: audit attacks on models of which something is claimed."""
    guessing = sum(attack.attack.needs is CanaryView for attack in plan.spec.attacks)
    claimed = [cell for cell in plan.cells if any(c.unit != "label" for c in plan.claims.get(cell.training or "", ()))]
    return guessing * len(claimed)


def _record(claim: ClaimEvidence | None, bound: Bound, tighter: Bound, adversary: ThreatModel) -> AuditEvidence:
    against = None if claim is None else _against(claim)
    exceeded = claim is not None and against is not None and _comparable(claim) and bound.epsilon > against
    warned = against is not None and not exceeded and max(bound.epsilon, tighter.epsilon) > against
    return AuditEvidence(
        claimed=None if claim is None else _terms(claim),
        audited=_shown(bound, adversary),
        gaussian=_shown(tighter, adversary),
        exceeded=exceeded,
        warned=warned,
        verdict=_verdict(claim, bound, exceeded),
        notes=tuple(_notes(claim, bound, tighter, warned)),
    )


def _terms(claim: ClaimEvidence) -> ClaimTerms:
    return ClaimTerms(
        epsilon=claim.epsilon,
        record_epsilon=claim.record_epsilon,
        delta=claim.delta,
        unit=claim.unit,
        adjacency=claim.adjacency,
        sampler=claim.sampler,
        accountant=claim.accountant,
    )


def _against(claim: ClaimEvidence) -> float:
    """The epsilon that a bound is compared with; no bound is above a claim that names none."""
    return math.inf if claim.record_epsilon is None else claim.record_epsilon


def _shown(bound: Bound, adversary: ThreatModel) -> AuditBound:
    return AuditBound(**asdict(bound), adversary=ThreatEvidence.of(adversary))


def _verdict(claim: ClaimEvidence | None, bound: Bound, exceeded: bool) -> str:
    statement = (
        f"epsilon is at least {round_down(bound.epsilon)} at {round_down(bound.confidence, 4)} confidence "
        f"({bound.right} of {bound.guesses} guesses right on {bound.canaries} canaries, "
        f"delta {round_down(bound.delta)}, no assumption)"
    )
    if claim is None:
        return f"{statement}; no claim to compare it with"
    stated = f"{round_up(math.inf if claim.epsilon is None else claim.epsilon)} per {claim.unit}, {claim.adjacency}"
    if claim.unit == "site":
        stated += f" ({round_up(_against(claim))} where a site is replaced)"
    return f"{statement}: the claim of {stated} is broken" if exceeded else f"{statement}; {stated} is claimed"


def _notes(claim: ClaimEvidence | None, bound: Bound, tighter: Bound, warned: bool) -> list[str]:
    notes = ["A bound below the claim does not prove it: a stronger adversary may find more."]
    if claim is None:
        notes.append("Nothing is claimed of who is in, so nothing is compared: the bound is a figure of leakage.")
    elif not _comparable(claim):
        notes.append(f"The claim is of {claim.adjacency} and a canary is one record more or less: it cannot fail.")
    elif claim.unit == "site":
        notes.append(
            "The site of a canary is there either way and sends something else: the bound is compared with the epsilon "
            f"of replacing a site, {round_up(_against(claim))}."
        )
    if warned and claim is not None:
        which = (
            "the bound without assumption"
            if bound.epsilon > _against(claim)
            else f"taking for granted {tighter.assumption}, epsilon"
        )
        notes.append(
            f"WARNING: {which} is at least {round_down(max(bound.epsilon, tighter.epsilon))}, above the claim of "
            f"{round_up(_against(claim))}. Look for an error in the training, or for what the assumption misses."
        )
    return notes


def _comparable(claim: ClaimEvidence) -> bool:
    return claim.unit == "site" or claim.adjacency.startswith("add-or-remove")


def _measures(bound: Bound, tighter: Bound) -> tuple[Measure, ...]:
    """Lower bounds at the audit's own confidence, one-sided; a party that knows nothing reaches 0."""
    return (
        Measure("audited_epsilon", bound.epsilon, chance=0.0, n=bound.canaries, unit="epsilon"),
        Measure("audited_epsilon_gaussian", tighter.epsilon, chance=0.0, n=tighter.canaries, unit="epsilon"),
    )


def _auc(scores: Tensor, included: Tensor, stream: Stream) -> Measure:
    if included.all() or not included.any():
        return Measure.undefined("canary_auc", "every coin fell on one side", len(scores))
    area = auc_interval([scores.double()], included.long(), stream.child("auc"))
    return Measure("canary_auc", *area, 0.5, len(scores))
