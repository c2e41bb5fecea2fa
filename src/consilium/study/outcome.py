"""What a run did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Outcome"]


@dataclass
class Outcome:
    """What a run did: counts, and the errors of what failed."""

    trained: int = 0
    resumed: int = 0
    reused: int = 0
    attacks_run: int = 0
    attacks_reused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, part: Mapping[str, Any]) -> None:
        """What one stage did, by the names of the counts."""
        for name in ("trained", "resumed", "reused", "attacks_run", "attacks_reused"):
            setattr(self, name, getattr(self, name) + part.get(name, 0))
