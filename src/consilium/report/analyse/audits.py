"""The audits of one cell as the report shows them: what is claimed beside the least that was found."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.evidence.audit import AuditEvidence, ClaimTerms
from consilium.report.load.records import CellRecord

__all__ = ["Audit", "audits"]

_TERMS = ("unit", "adjacency", "sampler", "accountant")


@dataclass(frozen=True)
class Audit:
    """One audit: lower bounds of epsilon at ``confidence``; ``claimed`` is None where nothing is claimed.

    A claim of sites is compared at the epsilon of replacing one.
    """

    name: str
    claimed: float | None
    terms: str
    epsilon: float
    gaussian: float | None
    delta: float | None
    confidence: float
    canaries: int
    guesses: int
    right: int
    adversary: str
    exceeded: bool
    warned: bool

    @property
    def word(self) -> str:
        """In a word or three."""
        if self.exceeded:
            return "claim broken"
        return "warning" if self.warned else "no claim" if self.claimed is None else "not broken, not proved"

    @property
    def mood(self) -> str:
        """The class of the chip."""
        return "bad" if self.exceeded else "warn" if self.warned else ""


def audits(cell: CellRecord) -> tuple[Audit, ...]:
    """Those of ``cell`` that can be read; one without a bound is none."""
    return tuple(_audit(name, a) for name, a in cell.audits.items() if a.audited.epsilon is not None)


def _audit(name: str, evidence: AuditEvidence) -> Audit:
    claimed, bound = evidence.claimed or ClaimTerms(), evidence.audited
    who = (bound.adversary.knowledge, bound.adversary.actor)
    return Audit(
        name=name,
        claimed=claimed.epsilon if claimed.record_epsilon is None else claimed.record_epsilon,
        terms=", ".join(f"{term} {getattr(claimed, term)}" for term in _TERMS if getattr(claimed, term)),
        epsilon=bound.epsilon or 0.0,
        gaussian=evidence.gaussian.epsilon,
        delta=bound.delta,
        confidence=bound.confidence or 0.0,
        canaries=bound.canaries,
        guesses=bound.guesses,
        right=bound.right,
        adversary=" ".join(word for word in who if word),
        exceeded=evidence.exceeded,
        warned=evidence.warned,
    )
