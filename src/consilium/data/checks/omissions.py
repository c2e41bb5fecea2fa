"""Counting what is left out, by natural site: the rows, pictures and values that a figure does not rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from consilium.core.attribute import UNKNOWN, Attribute
from consilium.core.errors import Refused
from consilium.core.records import Omission
from consilium.core.task import Task
from consilium.data.dataset import Dataset

__all__ = ["EXAMPLES", "by_site", "check_none_lost", "check_whole", "first", "of_records", "unknown_values"]

EXAMPLES = 5
"""Names shown of each kind; the others are counted."""


def by_site(what: str, sites: Iterable[str], examples: Sequence[str] = ()) -> tuple[Omission, ...]:
    """One omission for each site among ``sites``, which names the site of every single thing left out."""
    counts = Counter(sites)
    return tuple(Omission(what, counts[site], site, tuple(examples)) for site in sorted(counts))


def of_records(what: str, dataset: Dataset, mask: Tensor) -> tuple[Omission, ...]:
    """The records of ``dataset`` outside the boolean mask ``mask (n,)``, by natural site where there is one."""
    if dataset.keys is None:
        return by_site(what, [""] * int((~mask).sum()))
    numbers, counts = torch.unique(dataset.keys[~mask], return_counts=True)
    pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
    return tuple(Omission(what, count, dataset.key_name(number)) for number, count in pairs)


def first(names: Sequence[str]) -> tuple[str, ...]:
    """The first few of ``names`` as examples."""
    return (*names[:EXAMPLES], *(["..."] if len(names) > EXAMPLES else []))


def unknown_values(attributes: Iterable[Attribute]) -> tuple[Omission, ...]:
    """How many records have no known value of each of ``attributes``; none where all are known."""
    counts = ((attribute.name, int((attribute.codes == UNKNOWN).sum())) for attribute in attributes)
    return tuple(Omission(f"values of the attribute {name!r} are not known", count) for name, count in counts if count)


def check_none_lost(
    what: str, groups: Iterable[str], remaining: Iterable[str], remedy: str, kind: str = "site"
) -> None:
    """Refuse that a whole site (or class) among ``groups`` is not among ``remaining``, because of ``what``.

    Raises Refused: a group is left out entirely.
    """
    counts, names = Counter(groups), set(remaining)
    for name in sorted(counts):
        if name not in names:
            reason = f"{kind} {name!r} is lost whole: each of its {counts[name]} is one of the {what}"
            raise Refused(reason, remedy=remedy)


def check_whole(whole: Dataset, rest: Dataset, task: Task, what: str, remedy: str) -> None:
    """Refuse that leaving out ``what`` takes every record of a natural site or of a class."""
    if whole.keys is not None and rest.keys is not None:
        before, after = ([whole.key_name(key) for key in keys.tolist()] for keys in (whole.keys, rest.keys))
        check_none_lost(what, before, after, remedy)
    if not task.exclusive:
        return
    before, after = ([whole.classes[y] for y in dataset.records.y.tolist()] for dataset in (whole, rest))
    check_none_lost(what, before, after, remedy, "class")
