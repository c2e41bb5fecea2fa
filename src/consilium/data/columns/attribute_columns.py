"""Columns that are kept beside the inputs as attributes: a word or a number for each record, or nothing known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from consilium.core.attribute import UNKNOWN, Attribute
from consilium.core.errors import Refused
from consilium.data.columns.spelling import NUMBER, check_words_apart, exact

__all__ = ["attribute_of"]


def attribute_of(
    name: str, words: Sequence[str], unknown: npt.NDArray[np.bool_], rows: Sequence[int], declared: Sequence[str] | None
) -> Attribute:
    """The attribute ``name`` of records with ``words (n,)``, none where it is ``unknown (n,)``.

    ``rows`` are the numbers of the records in the file.  ``declared`` are all words that there may be, in order;
    without them they are those that occur: numbers by size, else alphabetical.

    Raises Refused: a word that is not declared, two that look alike, or none that is known.
    """
    known = [word for word, gap in zip(words, unknown, strict=True) if not gap]
    places = [row for row, gap in zip(rows, unknown, strict=True) if not gap]
    if not known:
        raise Refused(f"the attribute {name!r} is known of no record", remedy="leave it out", where="attributes")
    if declared is None:
        check_words_apart(known, places, name)
    order = list(declared) if declared is not None else _sorted(set(known))
    codes = {word: code for code, word in enumerate(order)}
    for word, row in zip(known, places, strict=True):
        if word not in codes:
            raise Refused(
                f"column {name!r}, row {row}, holds {word!r}, which is not among its declared categories",
                remedy="declare every category, or drop these rows",
                where="categories",
            )
    numbers = [UNKNOWN if gap else codes[word] for word, gap in zip(words, unknown, strict=True)]
    return Attribute(name, torch.tensor(numbers, dtype=torch.int64), tuple(order), declared is not None)


def _sorted(words: set[str]) -> list[str]:
    if all(map(NUMBER.fullmatch, words)):
        return sorted(words, key=exact)
    return sorted(words)
