"""How long the work that is left will take, within a factor of two, or no figure at all.

Work comes in kinds: rounds of one arm's training, its shadows, one attack on a model.  The first piece of a kind sets
things up and is not counted once there is a second.  What is left of a kind takes its count times the median of its
last durations.  A kind that was timed once, or never and is taken to be like its group (rounds, shadows, attacks), is a
guess g beside what is measured, s:

    g / 4 <= what it takes <= 4 g     so that     s + g is within 2 of the truth where g <= s / 2

Otherwise half of s is a lower bound, and nothing is said of the rest.  Workers side by side share the work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

__all__ = ["Kind", "Pace", "RemainingTime"]

_RECENT = 15
_GUESSED = 0.5
"""How much of what is measured may be guessed beside it: four times as much is then still within two of the sum."""
_SLACK = 2
"""What was measured may take half as long."""


@dataclass(frozen=True)
class Kind:
    """``group`` is ``rounds``, ``shadows`` or ``attacks``; ``name`` is what takes alike: an arm, an attack."""

    group: str
    name: str


@dataclass(frozen=True)
class RemainingTime:
    """Seconds that are left; ``whole`` is False if they are a lower bound."""

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
        self._first: dict[Kind, float] = {}
        self.total = sum(total.values())

    @property
    def done(self) -> int:
        """Pieces of the plan; one that is done again, because its worker was lost, counts once."""
        return self.total - sum(self._left.values())

    def count(self, kind: Kind, seconds: float | None = None, times: int = 1) -> None:
        """``times`` pieces are done; ``seconds`` is None where they took nothing: found done, or never to be done."""
        self._left[kind] = max(0, self._left.get(kind, 0) - times)
        if seconds is not None and kind in self._first:
            self._took.setdefault(kind, deque(maxlen=_RECENT)).append(seconds)
        elif seconds is not None:
            self._first[kind] = seconds

    def left(self) -> RemainingTime:
        """From now to the end."""
        measured = guessed = 0.0
        whole = True
        for kind, count in self._left.items():
            if kind in self._took:
                measured += count * median(self._took[kind])
            elif count:
                guess = self._guess(kind)
                whole &= guess is not None
                guessed += count * (guess or 0.0)
        whole &= guessed <= measured * _GUESSED
        return RemainingTime((measured + guessed if whole else measured / _SLACK) / self._workers, whole)

    def _guess(self, kind: Kind) -> float | None:
        """Seconds of a piece of a kind that was timed at most once: that, or as its group."""
        if kind in self._first:
            return self._first[kind]
        alike = [s for k, took in self._took.items() if k.group == kind.group for s in took]
        return median(alike) if alike else None


def _span(seconds: float) -> str:
    """A duration as one reads it: ``12 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
