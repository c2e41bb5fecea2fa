"""Physical parts of a logical batch, and units: several records (a patient's) that are clipped as one.

A unit's loss is the MEAN of its records' losses in the batch: one with many records weighs no more than one with few.
Units of similar size are put together and padded to R records each with copies of their own records at share zero; the
rows of a unit then are simply more positions of one example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.gradient import Batch

__all__ = ["Part", "count", "parts"]


@dataclass(frozen=True, eq=False)
class Part:
    """``n`` examples (or units) of k rows each; ``place (n,)`` is their place in the whole batch.

    ``share (n * k,)`` is the weight of each row's loss; None: one row per example, all of weight one.
    """

    batch: dict[str, Tensor]
    place: Tensor
    share: Tensor | None = None

    @property
    def n(self) -> int:
        """Examples or units."""
        return len(self.place)

    def only(self, keep: Tensor) -> Part:
        """Those examples where ``keep (n,)`` is true, with all their rows."""
        rows = keep if self.share is None else keep.repeat_interleave(len(self.share) // self.n)
        share = None if self.share is None else self.share[rows]
        return Part({name: t[rows] for name, t in self.batch.items()}, self.place[keep], share)


def count(batch: Batch, unit: Tensor | None) -> int:
    """How many examples, or different units, there are; refused if ``unit`` does not number the examples.

    Raises Refused: ``unit`` is not one whole number per example.
    """
    n = len(batch["x"])
    if unit is None:
        return n
    if unit.shape != (n,) or unit.is_floating_point():
        raise Refused(f"unit must hold one whole number for each of {n} examples", remedy="give a (n,) int64 tensor")
    return len(torch.unique(unit))


def parts(batch: Batch, unit: Tensor | None, rows: int) -> Iterator[Part]:
    """Parts of about ``rows`` rows, at least one example each; nothing for an empty batch."""
    return _plain(batch, rows) if unit is None else _united(batch, unit, rows)


def _plain(batch: Batch, rows: int) -> Iterator[Part]:
    n = len(batch["x"])
    each = -(-n // -(-n // rows)) if n else 1
    for start in range(0, n, each):
        stop = min(n, start + each)
        place = torch.arange(start, stop, device=batch["x"].device)
        yield Part({name: t[start:stop] for name, t in batch.items()}, place)


def _united(batch: Batch, unit: Tensor, rows: int) -> Iterator[Part]:
    _, member, counts = torch.unique(unit, return_inverse=True, return_counts=True)
    records = torch.argsort(member, stable=True)
    starts = torch.cumsum(counts, 0) - counts
    for units in _similar(counts, rows):
        size = counts[units]
        column = torch.arange(int(size.max()), device=unit.device)
        row = records[starts[units, None] + torch.minimum(column, size[:, None] - 1)].flatten()
        share = ((column < size[:, None]).double() / size[:, None]).flatten()
        yield Part({name: t[row] for name, t in batch.items()}, units, share)


def _similar(counts: Tensor, rows: int) -> Iterator[Tensor]:
    """Units in order of size, cut so that all of a part, padded to its largest, are at most ``rows``."""
    order = torch.argsort(counts, stable=True)
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or int(counts[order[stop]]) * (stop + 1 - start) > rows:
            yield order[start:stop]
            start = stop
