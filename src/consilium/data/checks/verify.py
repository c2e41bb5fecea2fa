"""What every data set must satisfy before it is used; a breach is one refusal with fault, place and remedy.

Inputs: float32, finite, in [0, 1] (a radius means what the literature means by it).  Labels: int64 in [0, classes).
Words: int64 ids below the size of the vocabulary, and no record without a word.
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.inputs import PADDING
from consilium.core.task import Task
from consilium.data.dataset import SPLITS, TRAIN, Dataset

__all__ = ["check_inputs", "check_labels", "check_tokens", "check_trained", "first_wrong", "verified"]


def check_inputs(x: Tensor, where: str) -> None:
    """Refuse inputs ``(n, *shape)`` that are none, not finite, or outside [0, 1]; ``where`` names the array.

    Raises Refused: no value, a value that is not finite, or one outside [0, 1].
    """
    if x.numel() == 0:
        raise Refused("there are no inputs", remedy="give at least one record with at least one value", where=where)
    flat = x.reshape(len(x), -1)
    low, high = flat.aminmax(dim=1)
    faulty = ~torch.isfinite(low) | ~torch.isfinite(high)
    if faulty.any():
        raise Refused(
            f"{first_wrong(faulty)} NaN or infinite values", remedy="repair or drop these records first", where=where
        )
    outside = (low < 0) | (high > 1)
    if outside.any():
        lowest, highest = float(low.min()), float(high.max())
        raise Refused(
            f"{first_wrong(outside)} values outside [0, 1] (they run from {lowest:.9g} to {highest:.9g})",
            remedy="store images as uint8, or divide by the greatest value that is possible (255 for bytes)",
            where=where,
        )


def check_tokens(x: Tensor, tokens: int, where: str) -> None:
    """Refuse ids ``(n, length)`` that are none, not below ``tokens``, or padding alone; ``where`` names the array.

    Raises Refused: no id, one outside [0, ``tokens``), or a record without a word.
    """
    if x.numel() == 0 or x.dim() != 2:
        raise Refused(f"ids of words have shape {tuple(x.shape)}", remedy="give x as (n, length)", where=where)
    outside = ((x < 0) | (x >= tokens)).any(1)
    if outside.any():
        raise Refused(
            f"{first_wrong(outside)} ids outside 0..{tokens - 1} (they run from {int(x.min())} to {int(x.max())})",
            remedy="number the words from 2 (0 is padding, 1 unknown), and give tokens as their number plus 2",
            where=where,
        )
    empty = (x == PADDING).all(1)
    if empty.any():
        reason = f"{first_wrong(empty)} no word: padding (0) alone"
        raise Refused(reason, remedy="leave such records out", where=where)


def check_labels(y: Tensor, classes: int, where: str) -> None:
    """Refuse labels ``(n,)`` outside [0, classes).

    Raises Refused: a label outside the classes.
    """
    outside = (y < 0) | (y >= classes)
    if outside.any():
        wrong = int(y[outside][0])
        raise Refused(
            f"{first_wrong(outside)} a label outside 0..{classes - 1} (such as {wrong})",
            remedy="number the classes from 0 and name all of them",
            where=where,
        )


def verified(dataset: Dataset, task: Task) -> Dataset:
    """``dataset`` itself, or a refusal.

    Raises Refused: one class only, labels that do not fit the task, an id twice, or a column of another length.
    """
    records, n, where = dataset.records, len(dataset.records), dataset.name
    if dataset.inputs.tokens:
        check_tokens(records.x, dataset.inputs.tokens, where)
    else:
        check_inputs(records.x, where)
    task.check_labels(records.y, dataset.classes, tuple(records.x.shape[1:]), where)
    if task.exclusive and len(torch.unique(records.y)) < 2:
        only = dataset.classes[int(records.y[0])]
        raise Refused(f"every record has the label {only!r}", remedy="give records of two classes or more", where=where)
    if len(torch.unique(records.ids)) < n:
        raise Refused("two records have the same id", remedy="number the records", where=where)
    for name, column in (("split", dataset.split), ("keys", dataset.keys)):
        if column is not None and column.shape != (n,):
            raise Refused(f"{name} has shape {tuple(column.shape)}, there are {n} records", where=where)
    if dataset.split is not None:
        check_labels(dataset.split, len(SPLITS), f"{where}, split")
    return dataset


def check_trained(dataset: Dataset) -> None:
    """Refuse a class in the validation or test split of the source without a training record.

    Raises Refused: a class with test or validation records and no training record.
    """
    if dataset.split is None:
        return
    train = torch.unique(dataset.records.y[dataset.split == TRAIN]).tolist()
    for split in torch.unique(dataset.split[dataset.split != TRAIN]).tolist():
        for label, count in zip(*_counted(dataset.records.y[dataset.split == split]), strict=True):
            if label not in train:
                raise Refused(
                    f"class {dataset.classes[label]!r} has records in the {SPLITS[split]} split ({count}) and none to "
                    "train on",
                    remedy="merge it with the class of another name, divide the data again, or leave the class out",
                    where=dataset.name,
                )


def _counted(y: Tensor) -> tuple[list[int], list[int]]:
    labels, counts = torch.unique(y, return_counts=True)
    return labels.tolist(), counts.tolist()


def first_wrong(wrong: Tensor) -> str:
    """The subject of a refusal, of a mask ``(n,)``: ``record 3 has``, or ``record 3 and 4 more have``."""
    places = wrong.nonzero().flatten().tolist()
    return f"record {places[0]} has" if len(places) == 1 else f"record {places[0]} and {len(places) - 1} more have"
