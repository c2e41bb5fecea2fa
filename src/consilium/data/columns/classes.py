"""Classes that stand for several words of a label: ``classes = [["well", "0"], ["ill", "1", "2", "3", "4"]]``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.data.columns.spelling import check_words, plain_text

__all__ = ["Classes", "check_class_groups", "grouped", "words_of_classes"]

Classes = tuple[tuple[str, ...], ...]


def check_class_groups(classes: Classes, label: str | None, categories: Sequence[str]) -> None:
    """Refuse a class without words, a word in two classes, and categories of the label beside them.

    Raises Refused: classes that cannot be told apart.
    """
    if not classes:
        return
    if label is None:
        raise Refused("there is no label whose words could be classes", remedy="take it out", where="classes")
    if label in categories:
        reason = f"the label {label!r} has categories too"
        raise Refused(reason, remedy="keep classes, or categories of the label", where="classes")
    if len(classes) < 2 or any(len(group) < 2 for group in classes):
        raise Refused(
            "a class has no words, or there is only one",
            remedy='write [["well", "0"], ["ill", "1", "2"]]',
            where="classes",
        )
    check_words([name for name, *_ in classes], "classes", alike=True)
    words = [plain_text(word) for _, *group in classes for word in group]
    for words_of in ([name for name, *_ in classes], words):
        twice = [word for word in words_of if words_of.count(word) > 1]
        if twice:
            raise Refused(f"{twice[0]!r} stands twice", remedy="name each once", where="classes")


def words_of_classes(classes: Classes, label: str | None) -> dict[str, tuple[str, ...]]:
    """The words that ``classes`` name of the column ``label``: None among them is a word, and no gap."""
    return {label: tuple(word for _, *group in classes for word in group)} if classes and label is not None else {}


def grouped(
    words: Sequence[str], classes: Classes, name: str, rows: Sequence[int]
) -> tuple[Tensor, tuple[str, ...], bool]:
    """The class ``(n,)`` of each of ``words (n,)`` of column ``name``, the names of the classes, and that these are
    declared; ``rows`` are their numbers in the table.

    Raises Refused: a word of no class.
    """
    number = {word: place for place, (_, *group) in enumerate(classes) for word in group}
    for word, row in zip(words, rows, strict=True):
        if word not in number:
            reason = f"column {name!r}, row {row}, holds {word!r}, which is a word of no class"
            raise Refused(reason, remedy="give it to a class, or drop these rows", where="classes")
    return torch.tensor([number[word] for word in words]), tuple(group[0] for group in classes), True
