"""What a defence costs: bytes of the stored artefact, and time as a ratio to a reference, interleaved in one process.

Absolute times of a shared machine mean little; a ratio of medians whose pairs were timed back to back, in alternating
order, survives a change of load that is slower than a pair.  The interval is a bootstrap over pairs.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.finding import Measure

__all__ = ["latency_ratio", "stored_bytes"]

_WARM_UP = 3
_RESAMPLES = 1000


def latency_ratio(module: nn.Module, reference: nn.Module, example: Tensor, repeats: int = 30) -> Measure:
    """Median time of ``module`` over that of ``reference`` on ``example (n, *shape)``; above 1 is slower.

    Both run without gradients, on the threads that the process has.  ``n`` is the number of timed pairs; the interval
    is a 95 % bootstrap over pairs, so it covers noise within this run and not another machine.

    Raises Refused: fewer than two repeats.
    """
    if repeats < 2:
        raise Refused(f"{repeats} repeats give no interval", remedy="use at least 2")
    with torch.no_grad():
        for _ in range(_WARM_UP):
            _seconds(module, example), _seconds(reference, example)
        pairs = np.array([_pair(module, reference, example, swapped=bool(i % 2)) for i in range(repeats)])
    value = float(_ratio(pairs[None])[0])
    resample = np.random.default_rng(0).integers(0, repeats, (_RESAMPLES, repeats))
    low, high = np.quantile(_ratio(pairs[resample]), (0.025, 0.975))
    return Measure(
        "latency_ratio", value, min(float(low), value), max(float(high), value), n=repeats, unit="x reference"
    )


def stored_bytes(size: int) -> Measure:
    """The measure ``bytes`` of a stored model of ``size`` bytes, header included (LAWS 21)."""
    return Measure("bytes", float(size), n=1, unit="B")


def _pair(module: nn.Module, reference: nn.Module, example: Tensor, swapped: bool) -> tuple[float, float]:
    if swapped:
        second = _seconds(reference, example)
        return _seconds(module, example), second
    return _seconds(module, example), _seconds(reference, example)


def _seconds(module: nn.Module, example: Tensor) -> float:
    _wait(example)
    start = time.perf_counter()
    module(example)
    _wait(example)
    return time.perf_counter() - start


def _wait(example: Tensor) -> None:
    if example.is_cuda:
        torch.cuda.synchronize(example.device)


def _ratio(
    pairs: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Ratio of medians over the pairs' axis: ``(draws, repeats, 2)`` -> ``(draws,)``."""
    medians = np.median(pairs, axis=1)
    out: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = medians[:, 0] / medians[:, 1]
    return out
