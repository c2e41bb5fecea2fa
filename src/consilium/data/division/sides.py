"""The training and the test side: neither may be empty or of one class, and a refusal states the reason.

The reason is one of the split that was given, of patients who stand on both sides of it, or of too few records or
patients to divide.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.task import Task
from consilium.data.dataset import TEST, TRAIN, VALIDATION, Dataset

__all__ = ["check_patients", "check_sides"]


def check_patients(dataset: Dataset) -> None:
    """Refuse that all records belong to one patient, whose records stay together.

    Raises Refused: all records are of one patient.
    """
    if dataset.records.unit_count() == 1:
        patient = dataset.unit_name(int(dataset.records.units[0]))
        raise Refused(
            f"all {len(dataset.records)} records belong to one patient ({patient!r}), so nothing can be held out",
            remedy="give records of two patients or more, or name their patients by an id that distinguishes them",
            where=dataset.name,
        )


def check_sides(
    dataset: Dataset, task: Task, role: Tensor, tangled: Mapping[str, int], *, test: float, testless: bool = False
) -> None:
    """Refuse a test set or training pool without records, of two classes where there are classes.

    ``role (n,)`` is that of each record of ``dataset``; ``tangled`` are the records removed because their patient
    is in a higher split; ``test`` is the share held out where the source gives no test split; ``testless``: the test
    set is elsewhere, so none is lawful here.
    """
    for name, side in (("test set", TEST), ("training pool", TRAIN)):
        if not bool((role == side).any()):
            if testless and side == TEST and not tangled:
                continue
            raise _empty(dataset, name, tangled)
        if not task.exclusive:
            continue
        present = torch.unique(dataset.records.y[role == side]).tolist()
        if len(present) == 1:
            raise _one_class(dataset, role, name, present[0], tangled, test)


def _empty(dataset: Dataset, name: str, tangled: Mapping[str, int]) -> Refused:
    if not tangled:
        return Refused(f"the {name} is empty", remedy="hold out a share: test = 0.2", where=dataset.name)
    reason = (
        f"the {name} is empty: each of its patients is in a higher split too ({_counted(tangled)}), and remains there"
    )
    return Refused(reason, remedy="divide the patients again, each into one split", where=dataset.name)


def _one_class(
    dataset: Dataset, role: Tensor, name: str, label: int, tangled: Mapping[str, int], test: float
) -> Refused:
    reason = f"the {name} holds one class only ({dataset.classes[label]!r}): "
    if dataset.split is None or not bool((dataset.split == TEST).any()):
        records = dataset.records.select(role != VALIDATION)
        patients = f" of {records.unit_count()} patients" if dataset.names_units else ""
        return Refused(
            f"{reason}{len(records)} records{patients}, {int((records.y != label).sum())} of another class, are too "
            f"few to divide with test = {test:g}",
            remedy="give more of them, or hold out another share",
            where=dataset.name,
        )
    others = f" ({_counted(tangled)} were removed because their patient is in a higher split)" if tangled else ""
    return Refused(
        f"{reason}accuracy on it means nothing{others}",
        remedy="give a split with records of two classes or more, or none (one is then made)",
        where=dataset.name,
    )


def _counted(tangled: Mapping[str, int]) -> str:
    return f"{sum(tangled.values())} records"
