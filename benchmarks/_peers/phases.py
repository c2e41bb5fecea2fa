"""What a private step is made of: seconds by phase, next to those of the plain step's three phases.

The functions in which the phases happen are wrapped for as long as the clock runs; what lies between them (Python, the
sample's records, clipping factors) is the rest.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from consilium.core.random import Stream
from consilium.learn.per_example import LayerRule, bookkeeping, clipping

from .private_steps import METHODS, Task, plain

__all__ = ["PHASES", "phases"]

PHASES = ("forward", "backward to outputs", "norms: convolutions", "norms: linear", "norms: normalisation",
          "weighted sums", "noise", "rest")  # fmt: skip
_PLAIN = ("forward", "backward", "update")
_OF_RULE = {
    "ConvolutionRule": PHASES[2],
    "DepthwiseRule": PHASES[2],
    "LinearRule": PHASES[3],
    "GroupNormRule": PHASES[4],
    "InstanceNormRule": PHASES[4],
    "LayerNormRule": PHASES[4],
}


def phases(task: Task, steps: int) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Median seconds of a step by phase: Consilium's, and plain SGD's (channels-last): forward, backward, update.

    They step in turn, so that a slow spell of the machine hits both.
    """
    marks: list[float] = []
    private, mine, theirs = METHODS["Consilium"](task), [], []
    sgd = plain(task, last=True, mark=lambda: marks.append(time.perf_counter()))
    with _clocks() as clock:
        for number in range(steps + 1):
            clock.clear()
            began = time.perf_counter()
            private(number)
            clock["rest"] = time.perf_counter() - began - sum(clock.values())
            mine.append(dict(clock))
            marks.clear()
            sgd(number)
            theirs.append([after - before for before, after in itertools.pairwise(marks)])
    return (
        {name: statistics.median(turn.get(name, 0.0) for turn in mine[1:]) for name in PHASES},
        dict(zip(_PLAIN, map(statistics.median, zip(*theirs[1:], strict=True)), strict=True)),
    )


@contextmanager
def _clocks() -> Iterator[dict[str, float]]:
    clock: dict[str, float] = defaultdict(float)
    places: list[tuple[Any, str, str]] = [
        (bookkeeping, "per_example_losses", "forward"),
        (torch.autograd, "grad", "backward to outputs"),
        (clipping, "_add", "weighted sums"),
        (Stream, "noised", "noise"),
    ]
    places += [
        (kind, "gradients", _OF_RULE[kind.__name__]) for kind in LayerRule.__subclasses__() if kind.__name__ in _OF_RULE
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    try:
        for (owner, name, phase), (*_, function) in zip(places, before, strict=True):
            setattr(owner, name, _timed(function, clock, phase))
        yield clock
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def _timed(function: Callable[..., Any], clock: dict[str, float], phase: str) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            clock[phase] += time.perf_counter() - began

    return timed
