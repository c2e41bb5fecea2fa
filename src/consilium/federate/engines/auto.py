"""Which engine carries a training fastest on this machine: a short timed probe decides.

One site is timed alone.  A training estimated to take seconds gets the loop: starting processes would cost more.
Otherwise every candidate carries a few sites of the first cohort, once to warm up and once timed; what they answer is
thrown away, so a probe changes nothing.  A stack rounds its sums in another order than one by one does, so it must be
clearly faster to be taken; the other engines agree to the last bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from consilium.core.errors import ConsiliumError
from consilium.core.plain import Json

from .engine import Engine, PhaseWork

__all__ = ["EngineChoice", "fastest"]

_SHORT = 3.0
"""Seconds of work in all below which the loop is taken."""
_CLEARLY = 1.25
"""How many times as fast as the loop or the pool a stack must be."""


@dataclass(frozen=True)
class EngineChoice:
    """The engine taken, why, and the seconds per site that each candidate took in the probe."""

    kind: str
    why: str
    seconds_per_site: Mapping[str, float]

    def to_json(self) -> dict[str, Json]:
        """Plain JSON, for evidence."""
        times = {name: seconds if math.isfinite(seconds) else None for name, seconds in self.seconds_per_site.items()}
        return {"kind": self.kind, "why": self.why, "seconds_per_site": times}


def fastest(
    candidates: Mapping[str, Callable[[], Engine]], work: PhaseWork[Any, Any, Any], rounds: int
) -> tuple[Engine, EngineChoice]:
    """The engine to use for ``rounds`` times the first round's ``work``, made, and the choice.

    ``candidates`` begin with the loop.
    """
    names, cohort = list(candidates), work.cohort
    best, kind = candidates[names[0]](), names[0]
    timed = {kind: _seconds(best, work.of(cohort[:1]))}
    whole = timed[kind] * len(cohort) * rounds
    if not math.isfinite(whole):
        return best, EngineChoice(kind, "the probe failed; the training reports the error", {})
    if len(names) == 1:
        return best, EngineChoice(kind, "no other can carry this training here", timed)
    if whole < _SHORT:
        return best, EngineChoice(kind, "over in seconds alone: not worth starting processes for", timed)
    for name in names[1:]:
        engine = candidates[name]()
        timed[name] = _seconds(engine, work.of(cohort[: engine.at_once(len(cohort))]))
        if timed[name] * (_CLEARLY if engine.tolerance else 1.0) < timed[kind]:
            best.close()
            best, kind = engine, name
        else:
            engine.close()
    return best, EngineChoice(kind, "the fastest in the probe", timed)


def _seconds(engine: Engine, work: PhaseWork[Any, Any, Any]) -> float:
    """Seconds per site, the second time; infinite where it fails, which must not end the others."""
    try:
        for _ in engine.carry(work):
            pass
        start = time.perf_counter()
        for _ in engine.carry(work):
            pass
    except ConsiliumError:
        return math.inf
    return (time.perf_counter() - start) / max(1, len(work.cohort))
