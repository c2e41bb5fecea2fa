"""Who the adversary was, as it stands in evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..core.threat import ThreatModel
from .fields import Text

__all__ = ["ThreatEvidence"]


@dataclass(frozen=True)
class ThreatEvidence:
    """The words of a :class:`~consilium.core.threat.ThreatModel`; those that an older version knew, or a newer one."""

    actor: Text = ""
    moment: Text = ""
    knowledge: Text = ""
    aim: Text = ""

    @classmethod
    def of(cls, threat: ThreatModel) -> ThreatEvidence:
        """That of a threat model."""
        return cls(**asdict(threat))
