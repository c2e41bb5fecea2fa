"""What one attack found: an entry of ``findings`` in a cell's evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator

from consilium.core.finding import RED_FLAG, Measure

from .audit import AuditEvidence
from .fields import ABSENT, Asked, Flag, Free, Maybe, Name, Number, Record, Table, Text, Texts, required
from .measure import Measures
from .threat import ThreatEvidence
from .upgrade import upgraded_findings

__all__ = ["FindingEvidence", "Findings"]


@dataclass(frozen=True)
class FindingEvidence:
    """``scores`` names the safetensors file beside the evidence, if there is one, and ``scores_sha256`` seals it.

    ``asked`` are the sites whose records were targeted, None where the attack targets none; ``digest`` is
    what the finding depends on; ``audit`` that of an attack on canaries.  An attack that does not see the model, but
    records alone, says nothing of it.
    """

    kind: Text = ""
    threat: Record[ThreatEvidence] = field(default_factory=ThreatEvidence, repr=False)
    sees_model: Flag = True
    configuration: Free = field(default_factory=dict, repr=False)
    code: Free = field(default_factory=dict, repr=False)
    status: Text = "ok"
    error: Name = None
    measures: Measures = field(default=(), repr=False)
    notes: Texts = field(default=(), repr=False)
    scores: Name = None
    asked: Asked = None
    scores_sha256: Name = field(default=None, repr=False)
    digest: Name = field(default=None, metadata=ABSENT, repr=False)
    audit: Maybe[AuditEvidence] = field(default=None, metadata=ABSENT, repr=False)
    seconds: Number = None

    @property
    def aim(self) -> str:
        """The adversary's gain, or "other" where the threat model does not state it."""
        return self.threat.aim or "other"

    @property
    def upper_bound(self) -> bool:
        """True where the attack was not adapted to the defence, so its figures flatter the model (LAWS 20)."""
        texts = [*self.notes, *(m.reason for m in self.measures)]
        return any("adaptive" in text.lower() or "upper bound" in text.lower() for text in texts)

    @property
    def red_flags(self) -> tuple[str, ...]:
        """What its notes have against the figures of robustness of this model, each a sentence."""
        return tuple(note.removeprefix(RED_FLAG) for note in self.notes if note.startswith(RED_FLAG))

    def measure(self, name: str) -> Measure | None:
        """The measure called ``name``, if there is one."""
        return next((m for m in self.measures if m.name == name), None)


_Finding = Annotated[FindingEvidence, BeforeValidator(required("status", "error", "threat", "measures", "notes"))]

Findings = Annotated[Table[_Finding], BeforeValidator(upgraded_findings)]
"""By the attack's name in the study."""
