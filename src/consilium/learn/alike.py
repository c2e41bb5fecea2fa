"""Whether a module answers a record alike, alone and in every batch.

    |f(x_i) - f(batch)_i| <= tolerance * spread + 1e-5 * largest

``spread`` is what decides between classes: the median over records of the range of a record's logits.  ``largest`` is
the largest logit, to which float32 rounds.  A kernel that is chosen by the size of the batch rounds in another order
and no more; one that is wrong, or a layer that looks at its neighbours, departs by the size of the answers themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["FEW_SIZES", "SIZES", "Departure", "departure"]

SIZES = (2, 3, 8, 64, 65, 256, 257, 512)
"""Batches up to those that models are judged and attacked in, and those just above where kernels change."""
FEW_SIZES = (2, 3, 65, 257)
"""What is looked at before training."""
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Departure:
    """A record that is answered otherwise in a batch; ``share`` of the spread of the logits."""

    batch: int
    record: int
    share: float

    def __str__(self) -> str:
        moved = f"by {self.share:.2g} of the spread of its logits"
        return f"in batches of {self.batch} record {self.record} is answered otherwise than alone, {moved}"


def departure(module: nn.Module, x: Tensor, tolerance: float = 1e-3, sizes: Sequence[int] = SIZES) -> Departure | None:
    """Where ``module`` answers ``x (n, *shape)``, n > 0, otherwise in a batch than alone; None if it does not.

    Every record is answered alone and in a batch of every size, with others of ``x``, as often as it takes to fill it.
    Of the first size with a departure the largest is told.
    """
    with torch.no_grad():
        alone = torch.cat([module(record[None]) for record in x])
        spread = float((alone.amax(1) - alone.amin(1)).nan_to_num().median())
        slack = tolerance * spread + _ROUNDING * float(alone.abs().nan_to_num().max())
        for size in sizes:
            worst, share = 0, 0.0
            for rows in _batches(len(x), size):
                off = _apart(module(x[rows]), alone[rows])
                if float(off.max()) > max(slack, share):
                    worst, share = int(rows[int(off.argmax())]), float(off.max())
            if share:
                return Departure(size, worst, share / max(spread, 1e-12))
    return None


def _batches(n: int, size: int) -> Iterator[Tensor]:
    """Whole batches of ``size`` positions that hold each of ``n`` at least once."""
    return iter(torch.split(torch.arange(-(-n // size) * size) % n, size))


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """The largest difference of each row ``(b,)``; infinite where one alone is not a number."""
    differences = torch.where(one.isnan() & other.isnan(), 0, (one - other).abs())
    return differences.nan_to_num(nan=float("inf"), posinf=float("inf")).amax(1)
