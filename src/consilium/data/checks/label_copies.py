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
    """Notes on columns and values of inputs ``(n, *shape)`` that are in one-to-one correspondence with ``y (n,)``."""
    y = dataset.records.y
    if not task.exclusive or len(y) < _FEW:
        return
    least, greatest = _ends(dataset.records.x.flatten(1), y)
    constant = (least == greatest).all(0)
    at = 0
    for column in dataset.inputs.columns:
        width = max(1, len(column.words))
        place = slice(at, at + width)
        at += width
        if bool(constant[place].all()) and _all_differ(least[:, place]):
            yield (
                f"column {column.name!r} has one value for each class, and tells the label of every record: if it was "
                f'written down after the label, drop = ["{column.name}"]'
            )
    if not dataset.inputs.columns:
        copies = [place for place in constant.nonzero().flatten().tolist() if _all_differ(least[:, [place]])]
        if copies:
            yield (
                f"{len(copies)} of {len(constant)} values of an input, such as number {copies[0]}, have one value for "
                "each class, and tell the label of every record: were they made from it? leave them out"
            )


def _ends(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of each feature of ``x (n, d)`` in each class: ``(classes, d)``."""
    ends = [x[y == label].aminmax(dim=0) for label in torch.unique(y)]
    return torch.stack([end.min for end in ends]), torch.stack([end.max for end in ends])


def _all_differ(rows: Tensor) -> bool:
    return len(torch.unique(rows, dim=0)) == len(rows)
