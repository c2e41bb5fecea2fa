"""Which records of a pool each of many shadow trainings learns from.

    site k trains on n of its p records; w = min(n, p - n)
    shadow j of a lap takes (n = w) or leaves out places jw to (j+1)w of a permutation of the p, drawn again every lap
    of floor(p / w) shadows

So a shadow is as large as the target at every site, which keeps steps, sampling rates and noise as they were; every
record is in n/p of the shadows (half of them where members and non-members are equally many), evenly and not only on
average; and the choice of records is independent of membership.  Records of one unit go together, so that a size
may be off by less than a unit.  The first shadows of a longer list are those of a shorter one.

Source: Carlini et al. 2022, arXiv 2112.03570, section VI (each record in half of the shadows), with fixed sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .random import Stream

__all__ = ["inclusion"]


def inclusion(site: Tensor, sizes: Tensor, units: Tensor, count: int, stream: Stream) -> Tensor:
    """Masks ``(count, p)`` bool over a pool whose record i is at ``site[i]``, of ``sizes[k]`` records each."""
    masks = torch.zeros(count, len(site), dtype=torch.bool)
    for k, size in enumerate(sizes.tolist()):
        places = torch.nonzero(site == k)[:, 0]
        for i in range(count):
            masks[i, places] = _window_members(units[places], size, i, stream.child("masks", k))
    return masks


def _window_members(units: Tensor, size: int, number: int, stream: Stream) -> Tensor:
    p = len(units)
    window = min(size, p - size)
    if window == 0:
        return torch.full((p,), size > 0)
    lap, turn = divmod(number, p // window)
    starts = _starts(units, stream.child(lap))
    members = (starts >= turn * window) & (starts < (turn + 1) * window)
    return members if size <= p - size else ~members


def _starts(units: Tensor, stream: Stream) -> Tensor:
    """Where each record's unit starts when units are in random order, ``(p,)``."""
    _, of, counts = torch.unique(units, return_inverse=True, return_counts=True)
    order = torch.randperm(len(counts), generator=stream.generator())
    begins = torch.empty_like(counts)
    begins[order] = torch.cumsum(counts[order], 0) - counts[order]
    return begins[of]
