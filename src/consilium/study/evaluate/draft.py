"""The evidence of one cell while it is made: whatever breaks, what was found until then stays in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from consilium.evidence.cell import CellEvidence
from consilium.evidence.finding import FindingEvidence

from .canary_audit import broken
from .evaluate import Judgement

__all__ = ["Draft"]


@dataclass
class Draft:
    """``evidence`` is replaced as a whole at every step."""

    evidence: CellEvidence

    def judged(self, judgement: Judgement) -> None:
        """The model was judged on the test set."""
        self.evidence = replace(self.evidence, **vars(judgement))

    def note(self, notes: Iterable[str]) -> None:
        """Add those of ``notes`` that are not there."""
        new = [note for note in notes if note not in self.evidence.notes]
        self.evidence = replace(self.evidence, notes=(*self.evidence.notes, *new))

    def found(self, name: str, finding: FindingEvidence) -> None:
        """The attack ``name`` was run."""
        seconds = dict(self.evidence.seconds)
        seconds["evaluation"] = seconds.get("evaluation", 0.0) + (finding.seconds or 0.0)
        self.evidence = replace(self.evidence, findings={**self.evidence.findings, name: finding}, seconds=seconds)

    def end(self) -> None:
        """Everything was done: failed where an attack failed, or an audit broke a claim."""
        findings = self.evidence.findings
        wrong = {name: finding.error for name, finding in findings.items() if finding.status != "ok"}
        wrong |= broken(findings)
        error = "; ".join(f"{name}: {why}" for name, why in wrong.items()) or None
        self.evidence = replace(self.evidence, status="failed" if wrong else "ok", error=error)

    def fail(self, error: str) -> None:
        """Something broke."""
        self.evidence = replace(self.evidence, status="failed", error=error)
