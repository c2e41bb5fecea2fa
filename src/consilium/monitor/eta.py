"""How long the work that is left will take.

Work comes in kinds: rounds of one arm's training, its shadows, one attack on a model.  What is left of a kind takes its
count times the median of its last durations; a kind that was never timed is taken to be like its group (rounds,
shadows, attacks); workers side by side share it.  While nothing of a group was timed its share is unknown, and what is
known is a lower bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

__all__ = ["Kind", "Pace", "RemainingTime"]

_RECENT = 15


@dataclass(frozen=True)
class Kind:
    """``group`` is ``rounds``, ``shadows`` or ``attacks``; ``name`` is what takes alike: an arm, an attack."""

    group: str
    name: str


@dataclass(frozen=True)
class RemainingTime:
    """Seconds that are left; ``whole`` is False if a part of the work was never timed and is not in them."""

    seconds: float
    whole: bool

    def __str__(self) -> str:
        if not self.whole and self.seconds < 0.5:
            return "time left not known yet"
        return f"{'about' if self.whole else 'more than'} {_span(self.seconds)} left"


class Pace:
    """Counts work of each kind down, and stores how long its last pieces took."""

    def __init__(self, total: Mapping[Kind, int], workers: int = 1) -> None:
        self._left, self._workers = dict(total), workers
        self._took: dict[Kind, deque[float]] = {}
        self.total = sum(total.values())

    @property
    def done(self) -> int:
        """Pieces of the plan; one that is done again, because its worker was lost, counts once."""
        return self.total - sum(self._left.values())

    def count(self, kind: Kind, seconds: float | None = None, times: int = 1) -> None:
        """``times`` pieces are done; ``seconds`` is None where they took nothing: found done, or never to be done."""
        self._left[kind] = max(0, self._left.get(kind, 0) - times)
        if seconds is not None:
            self._took.setdefault(kind, deque(maxlen=_RECENT)).append(seconds)

    def left(self) -> RemainingTime:
        """From now to the end."""
        seconds, whole = 0.0, True
        for kind, count in self._left.items():
            each = self._each(kind)
            whole &= count == 0 or each is not None
            seconds += count * (each or 0.0)
        return RemainingTime(seconds / self._workers, whole)

    def _each(self, kind: Kind) -> float | None:
        alike = self._took.get(kind) or [s for k, took in self._took.items() if k.group == kind.group for s in took]
        return median(alike) if alike else None


def _span(seconds: float) -> str:
    """A duration as one reads it: ``12 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
