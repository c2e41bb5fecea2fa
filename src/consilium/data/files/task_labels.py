"""Labels of an array as a task has them, where they are not one class a record.

    whole numbers      int64 (n, ...): findings of 0 and 1, masks            other numbers      float32 (n, k)

An array ``(n,)`` of one quantity or one finding becomes a column.  What the values mean is checked by the task.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.task import Task

__all__ = ["task_labels"]

_MOST_KEPT = 0.9
"""Of very many labels a few are always neighbours in single precision."""


def task_labels(array: npt.NDArray[Any], n: int, task: Task, where: str) -> Tensor:
    """The labels of ``n`` records; ``where`` names the array.

    Raises Refused: another number of records, no numbers, or fractions where the task has whole numbers.
    """
    if array.ndim == 0 or len(array) != n:
        count = 0 if array.ndim == 0 else len(array)
        raise Refused(f"{count} labels for {n} records", remedy="give the labels of each record", where=where)
    if array.dtype.kind not in "iufb":
        remedy = "store 0 and 1, or whole numbers" if task.whole else "store numbers"
        raise Refused(f"labels are of type {array.dtype}", remedy=remedy, where=where)
    column = array[:, None] if array.ndim == 1 else array
    if not task.whole:
        return _single(column, where)
    if column.dtype.kind == "f":
        broken = ~np.isfinite(column) | (column != np.floor(column))
        if broken.any():
            record = int(np.argwhere(broken)[0][0])
            raise Refused(
                f"record {record} has the label {column[tuple(np.argwhere(broken)[0])]:g}, and {task.kind()} has whole "
                "numbers",
                remedy="store whole numbers, or choose the task regression",
                where=where,
            )
    return torch.from_numpy(np.ascontiguousarray(column, dtype=np.int64))


def _single(column: npt.NDArray[Any], where: str) -> Tensor:
    """In single precision; refused where many labels that differ would become one."""
    single = np.ascontiguousarray(column, dtype=np.float32)
    for before, after in zip(column.reshape(len(column), -1).T, single.reshape(len(column), -1).T, strict=True):
        different, rest = len(np.unique(before)), len(np.unique(after))
        if rest < _MOST_KEPT * different:
            raise Refused(
                f"{different} different labels would become {rest} in single precision, in which they are stored",
                remedy="subtract a public offset from them, such as the start of the study",
                where=where,
            )
    return torch.from_numpy(single)
