"""A table's cell as text: what is a gap, what is a number, and what only looks like one.

A column is one of numbers if all its texts are (12, -0.5, 1e3), or all say true or false.  If most of them are, or look
like numbers with a mark (45,000, <5, 23%), the others are mistakes: they are refused by row, unless the column's
categories are declared.  Nothing is guessed of what a mark means.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused

__all__ = ["GAPS", "numbers", "plain_words"]

GAPS = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
"""Texts that mean that nothing is known (those of pandas), in columns whose declared categories do not name them."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|[iI]nf(?:inity)?)")
_MARKED = re.compile(r"[<>≤≥~≈$€£]?=?\s*[+-]?\d[\d.,'’\s]*(?:[%‰]|\s[^\d\s]{1,8})?")
_FLAGS = {"True": 1.0, "TRUE": 1.0, "true": 1.0, "False": 0.0, "FALSE": 0.0, "false": 0.0}
_FEW = 20
"""So many different marked numbers may be categories (<5, >10); more are measurements."""


def numbers(
    texts: Sequence[str], rows: Sequence[int], name: str, *, declared: bool, decimal: str = "."
) -> npt.NDArray[np.float64] | None:
    """The texts ``(n,)`` of column ``name`` as numbers, or None for a column of words.

    ``rows`` are their numbers in the table.  Refused, by the first cell: one that is no number among numbers.
    """
    flags = [_FLAGS.get(text) for text in texts]
    if not declared and None not in flags:
        return np.array(flags, dtype=np.float64)
    swapped = [_point(text, decimal) for text in texts]
    bad = [i for i, text in enumerate(swapped) if not _NUMBER.fullmatch(text)]
    if not bad:
        return np.array(swapped, dtype=object).astype(np.float64)
    first, at = texts[bad[0]], rows[bad[0]]
    if declared:
        raise _refusal(first, at, name, "its range is declared", "mend the cell, or add it to missing", "ranges")
    marked = {texts[i] for i in bad if _MARKED.fullmatch(texts[i])}
    alike = len(texts) - len(bad) + sum(texts[i] in marked for i in bad)
    if 2 * alike < len(texts) or (len(bad) == len(texts) and len(marked) <= _FEW):
        return None
    why = f"{alike} of its {len(texts)} values are numbers or look like them"
    raise _refusal(first, at, name, why, "mend the cell, add it to missing, or declare its categories")


def plain_words(texts: Sequence[str]) -> list[str]:
    """Words as they stand; where all are whole numbers written with a point (1.0), without it."""
    whole = all(re.fullmatch(r"[+-]?\d+\.0+", text) for text in texts)
    return [text.partition(".")[0] for text in texts] if whole else list(texts)


def _point(text: str, decimal: str) -> str:
    """With the decimal mark as a point; a point that is no decimal mark makes it no number."""
    if decimal == ".":
        return text
    return "" if "." in text else text.replace(decimal, ".")


def _refusal(text: str, row: int, name: str, why: str, remedy: str, where: str = "data") -> Refused:
    shown = text if len(text) <= 40 else text[:40] + "..."
    return Refused(
        f"column {name!r} does not hold numbers: row {row} has {shown!r}, and {why}", remedy=remedy, where=where
    )
