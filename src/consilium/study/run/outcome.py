"""What a run did."""

from __future__ import annotations

from dataclasses import dataclass, field

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
