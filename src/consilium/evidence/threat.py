"""The adversary's threat model in the evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from consilium.core.taxonomy import taxonomy
from consilium.core.threat import ThreatModel

from .fields import Name, Text

__all__ = ["ThreatEvidence"]


@dataclass(frozen=True)
class ThreatEvidence:
    """The fields of a :class:`~consilium.core.threat.ThreatModel`, and its identifiers (:mod:`..core.taxonomy`)."""

    actor: Text = ""
    moment: Text = ""
    knowledge: Text = ""
    aim: Text = ""
    nist: Name = None
    atlas: Name = None
    ai_act: Name = None

    @classmethod
    def of(cls, threat: ThreatModel, nist: str | None = None) -> ThreatEvidence:
        """That of a threat model; ``nist`` is the id that its entry states."""
        return cls(**asdict(threat), **asdict(taxonomy(threat, nist)))
