"""Dividing units, never records: what one patient gave stays together.

A share is stratified: each label gives its part of the units, whole numbers by largest remainder.  A unit's label is
the one that most of its records bear (the lower one on a tie).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.data.dataset import TEST, TRAIN, Dataset

__all__ = ["PUBLIC", "Units", "pick", "pick_records", "roles"]

PUBLIC = 3
"""The role of the public slice, beside TRAIN, VALIDATION and TEST."""


@dataclass(frozen=True, eq=False)
class Units:
    """The u units of n records: ``of (n,)`` the unit of each record, and each unit's label and natural key ``(u,)``."""

    of: Tensor
    y: Tensor
    keys: Tensor | None = None

    @classmethod
    def among(cls, y: Tensor, units: Tensor, keys: Tensor | None = None) -> Units:
        """The units of n records, by unit number; label and key are those of most of a unit's records."""
        if bool((units[1:] > units[:-1]).all()):  # one record each, in order
            return cls(torch.arange(len(y)), y, keys)
        _, of = torch.unique(units, return_inverse=True)
        return cls(of, _most_frequent(of, y), None if keys is None else _most_frequent(of, keys))


def pick(y: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A random ``share`` of units with labels ``y (u,)``, stratified: bool ``(u,)``.

    A positive share of two units or more is at least one unit and never all.
    """
    order = torch.randperm(len(y), generator=generator)
    mask = torch.zeros(len(y), dtype=torch.bool)
    for label, quota in enumerate(_quotas(torch.bincount(y).tolist(), share)):
        if quota:
            mask[order[y[order] == label][:quota]] = True
    return mask


def pick_records(y: Tensor, units: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The records ``(n,)`` bool of a random, stratified ``share`` of the units; ``y`` and ``units`` are ``(n,)``."""
    among = Units.among(y, units)
    return pick(among.y, share, generator)[among.of]


def roles(dataset: Dataset, strata: Tensor, *, test: float, public: float, stream: Stream) -> Tensor:
    """The role ``(n,)`` of each record: TRAIN, VALIDATION, TEST or PUBLIC.

    A test split that the source gives is kept; otherwise a share ``test`` of the units is held out.  The public slice
    is a share ``public`` of the training pool, taken out before anything is divided over sites (LAWS 10, 17).
    """
    n = len(dataset.records)
    role = torch.zeros(n, dtype=torch.long) if dataset.split is None else dataset.split.long().clone()
    if not (role == TEST).any():
        _take(role, TEST, dataset.records, strata, test, stream.child("test"))
    _take(role, PUBLIC, dataset.records, strata, public, stream.child("public"))
    return role


def _take(role: Tensor, to: int, records: Records, strata: Tensor, share: float, stream: Stream) -> None:
    pool = (role == TRAIN).nonzero().flatten()
    role[pool[pick_records(strata[pool], records.units[pool], share, stream.generator())]] = to


def _quotas(counts: list[int], share: float) -> list[int]:
    total = sum(counts)
    wanted = min(max(round(share * total), 1 if share > 0 else 0), max(total - 1, 0))
    exact = [share * count for count in counts]
    quotas = [min(int(e), count) for e, count in zip(exact, counts, strict=True)]
    able = [label for label, count in enumerate(counts) if quotas[label] < count]
    # the greatest remainder first, but a label's last unit only where there is no other
    able.sort(key=lambda label: (quotas[label] + 1 == counts[label], quotas[label] - exact[label], label))
    for label in able[: max(wanted - sum(quotas), 0)]:
        quotas[label] += 1
    return quotas


def _most_frequent(of: Tensor, values: Tensor) -> Tensor:
    names, value = torch.unique(values, return_inverse=True)
    pair, counts = torch.unique(of * len(names) + value, return_counts=True)
    unit, value = pair // len(names), pair % len(names)
    order = torch.from_numpy(np.lexsort((value.numpy(), -counts.numpy(), unit.numpy())))
    _, sizes = unit[order].unique_consecutive(return_counts=True)
    best: Tensor = names[value[order][sizes.cumsum(0) - sizes]]
    return best
