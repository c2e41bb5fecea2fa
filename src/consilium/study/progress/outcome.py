"""What a run did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consilium.core.count_words import count_words

__all__ = ["Outcome"]


@dataclass
class Outcome:
    """What a run did: counts, the errors of what failed, and its seconds, those of planning apart."""

    trained: int = 0
    resumed: int = 0
    reused: int = 0
    attacks_run: int = 0
    attacks_reused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    planning_seconds: float = 0.0

    def add(self, part: Mapping[str, Any]) -> None:
        """What one stage did, by the names of the counts."""
        for name in ("trained", "resumed", "reused", "attacks_run", "attacks_reused"):
            setattr(self, name, getattr(self, name) + part.get(name, 0))

    def line(self) -> str:
        """For people, without what failed."""
        trained = f"trained {self.trained}" if self.trained else "trained nothing"
        resumed = f" ({self.resumed} resumed)" if self.resumed else ""
        planned = f"planned in {self.planning_seconds:.1f} s, " if self.planning_seconds else ""
        return (
            f"{trained}{resumed}, {self.reused} done already; ran {count_words(self.attacks_run, 'attack')}, "
            f"{self.attacks_reused} done already; {planned}ran in {self.seconds:.1f} s"
        )

    def to_json(self) -> dict[str, object]:
        """Plain JSON, for programs."""
        return {name: round(v, 2) if isinstance(v, float) else v for name, v in vars(self).items()}
