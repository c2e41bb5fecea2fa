"""Records that are trained on at another natural site than their own, because their patient belongs to that one."""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.data.checks.omissions import first
from consilium.data.dataset import Dataset

__all__ = ["moved_records"]


def moved_records(dataset: Dataset, homes: Tensor, pool: Tensor) -> tuple[str, ...]:
    """A note on how many records of the ``pool (n,)`` move, from where to where; none where none does.

    ``homes (p,)``: the key of the site to which the patient of each record of the pool belongs.
    """
    if dataset.keys is None:
        return ()
    keys = dataset.keys[pool]
    moved = keys != homes
    if not bool(moved.any()):
        return ()
    ways, counts = torch.unique(torch.stack([keys[moved], homes[moved]]), dim=1, return_counts=True)
    lines = [
        f"{count} from {dataset.key_name(one)!r} to {dataset.key_name(other)!r}"
        for (one, other), count in zip(ways.T.tolist(), counts.tolist(), strict=True)
    ]
    return (
        f"{int(moved.sum())} of {len(keys)} records of the sites move to the site with most of their patient's: "
        f"{', '.join(first(lines))}; there they are trained on and counted",
    )
