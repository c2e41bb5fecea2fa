"""Columns of a table that are the label under another name: each of their values stands beside one class alone.

Such a column is often written down after the fact (a code of the diagnosis, the outcome in numbers).  A model that is
given it knows the answer; one that the label really follows from may be right.  So it is noted.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from consilium.core.task import Task
from consilium.data.dataset import Dataset

__all__ = ["check_label_copies"]

_FEW = 20
"""Among fewer records it may be chance."""


def check_label_copies(dataset: Dataset, task: Task) -> Iterator[str]:
    """Notes on columns of inputs ``(n, d)`` from which every label ``y (n,)`` can be read, and nothing else."""
    x, y = dataset.records.x, dataset.records.y
    if not task.exclusive or x.dim() != 2 or len(y) < _FEW:
        return
    at = 0
    for column in dataset.inputs.columns:
        width = max(1, len(column.words))
        part = x[:, at : at + width]
        at += width
        if _is_copy(part, y):
            yield (
                f"column {column.name!r} has one value for each class, and tells the label of every record: if it was "
                f'written down after the label, drop = ["{column.name}"]'
            )


def _is_copy(part: Tensor, y: Tensor) -> bool:
    """Whether the different rows of ``part (n, k)`` and the labels ``y (n,)`` are in one-to-one correspondence."""
    if len(torch.unique(part[:_FEW], dim=0)) > len(torch.unique(y)):  # spares a sort of most columns
        return False
    values = torch.unique(part, dim=0, return_inverse=True)[1]
    pairs = torch.unique(torch.stack([values, y]), dim=1)
    return bool(pairs.shape[1] == len(torch.unique(values)) == len(torch.unique(y)))
