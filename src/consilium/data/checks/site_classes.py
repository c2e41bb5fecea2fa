"""Whether natural sites have classes in common: two vocabularies of one answer make twice as many classes.

    ill and well at A, 1 and 0 at B    four classes, of which each site knows two: accuracy .35 in the place of .98

Sites that truly have other classes than all others are a study's to declare.  A site of one class is no vocabulary: a
ward of healthy people is one, and so is a site that has few records.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from consilium.core.errors import Refused
from consilium.core.task import Task
from consilium.data.dataset import Dataset

from .omissions import first

__all__ = ["check_site_classes"]


def check_site_classes(dataset: Dataset, task: Task) -> Iterator[str]:
    """Refuse a natural site of two classes or more that shares none with the others, unless the classes are declared.

    Yields a caution for each that has one class alone, which no other has, or knows not the one class of all others.

    Raises Refused: such a site, by its name and its classes.
    """
    y, keys = dataset.records.y, dataset.keys
    if not task.exclusive or y.dim() != 1 or keys is None or dataset.inputs.classes_declared:
        return
    sites = torch.unique(keys).tolist()
    for site in sites if len(sites) > 1 else []:
        here, elsewhere = (torch.unique(y[mask]) for mask in (keys == site, keys != site))
        if len(here) == len(elsewhere) == 1 or bool(torch.isin(here, elsewhere).any()):
            continue
        mine, others = (
            ", ".join(first([repr(dataset.classes[label]) for label in labels.tolist()]))
            for labels in (here, elsewhere)
        )
        if len(here) < 2 or len(elsewhere) < 2:
            yield (
                f"site {dataset.key_name(site)!r} has the classes {mine}, and the other sites none of them, but "
                f"{others}: is that one vocabulary?"
            )
            continue
        raise Refused(
            f"site {dataset.key_name(site)!r} has the classes {mine}, and the other sites none of them, but {others}: "
            "are these two vocabularies of one answer?",
            remedy="write the label in one vocabulary at all sites, or declare the classes (table: categories, or "
            "classes for several words of one class; other sources: classes)",
            where="classes",
        )
