"""One table column -> features in [0, 1].

Numbers: (value - low) / (high - low), clipped.  Words: one column for each category, 1 where it holds.  Range and
categories are public where the user declares them; what is read from the records is private and named as such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused
from consilium.core.inputs import Column
from consilium.data.checks.gap_words import is_blank_mark
from consilium.data.columns.measured_words import measured_words
from consilium.data.columns.spelling import NUMBER, check_words_apart

__all__ = ["Encoded", "check_classes", "check_no_marks", "encode_numbers", "encode_words"]

_MANY = 100
"""Undeclared categories beyond this number look like an identifier."""
_FEW_ROWS = 20
"""From so many rows on, a column with a distinct word in each row looks like names."""
_COARSE = 1e-3
"""The largest share of a column's range by which rounding to a float may move a number."""
_MANY_FRACTIONS = 20
"""So many different numbers with a fraction are measurements and no classes."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Features float32 ``(n, k)``, whether they were scaled by the records' own range, and their meaning.

    ``range`` is the declared one of a column of numbers; ``words`` are the categories of the features, in order;
    ``clipped (n,)`` marks the values outside the range; ``note`` is a remark on the column for the reader.
    """

    x: npt.NDArray[np.float32]
    private: bool
    range: tuple[float, float] | None = None
    words: tuple[str, ...] = ()
    clipped: npt.NDArray[np.bool_] | None = None
    note: str = ""

    def column(self, name: str, unit: str) -> Column:
        """The column called ``name`` as sites agree on it."""
        return Column(name, self.range, self.words, unit, not self.private)


def encode_numbers(
    values: npt.NDArray[Any],
    declared: tuple[float, float] | None,
    name: str,
    different: int = 0,
    rows: Sequence[int] | None = None,
) -> Encoded:
    """A column of numbers ``(n,)`` of its own type by its declared range, or else by its least and greatest value.

    ``different`` is how many different ones the file holds, where float64 may not have kept them apart; ``rows`` are
    their numbers in the table, left out: from 1.

    Raises Refused: infinite values, most values outside the declared range, or numbers too long for their type.
    """
    numbers = values.astype(np.float64)
    _check_finite(numbers, name, range(1, len(numbers) + 1) if rows is None else rows)
    low, high = declared or (float(numbers.min()), float(numbers.max()))
    if not math.isfinite(high - low):
        reason = f"column {name!r} reaches from {low:g} to {high:g}, wider than a float can scale"
        raise Refused(reason, remedy="repair or drop these rows", where=name)
    outside = _outside(values, low, high)
    if declared and float(outside.mean()) > 0.5:
        raise Refused(
            f"most values of column {name!r} are outside its declared range {low:g} to {high:g}",
            remedy="declare the range in the column's own unit",
            where="ranges",
        )
    clipped = np.clip(numbers, low, high)
    _check_digits(clipped, values.dtype, high - low, name)
    scaled = ((clipped - low) / (high - low) if high > low else np.zeros_like(clipped)).astype(np.float32)
    _check_distinct(clipped, scaled, 0 if outside.any() else different, name)
    return Encoded(scaled[:, None], declared is None, declared, clipped=outside)


def _outside(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.bool_]:
    """Which values are outside a range, in their own type: 0.7 in float32 is less than 0.7."""
    with np.errstate(over="ignore"):
        ends = np.array([low, high]).astype(values.dtype if values.dtype.kind == "f" else np.float64)
    outside: npt.NDArray[np.bool_] = (values < ends[0]) | (values > ends[1])
    return outside


def _check_finite(numbers: npt.NDArray[np.float64], name: str, rows: Sequence[int]) -> None:
    """Refuse numbers without bounds, by the first row: inf as text, 1e400, or the infinity of a typed file."""
    if odd := np.flatnonzero(~np.isfinite(numbers)).tolist():
        others = f", and {len(odd) - 1} more rows hold such" if odd[1:] else ""
        raise Refused(
            f"column {name!r} holds infinite values: row {rows[odd[0]]} has one (inf, or beyond 1.8e308){others}",
            remedy="repair or drop these rows",
            where=name,
        )


def _check_digits(numbers: npt.NDArray[np.float64], dtype: np.dtype[Any], reach: float, name: str) -> None:
    """Refuse numbers so long that their float keeps them apart by steps of a thousandth of their range, or more."""
    size = np.abs(numbers).max()
    step = float(np.spacing(size.astype(dtype if dtype.kind == "f" else np.float64)))
    if reach > 0 and step > _COARSE * reach:
        raise Refused(
            f"the numbers of column {name!r} are too long: near {size:g} a float counts in steps of {step:g}, and "
            f"their range is {reach:g}",
            remedy="subtract what they have in common, drop the column, or declare categories",
            where=name,
        )


def _check_distinct(values: npt.NDArray[Any], scaled: npt.NDArray[np.float32], different: int, name: str) -> None:
    """Refuse that most of a column's different values become one when they are scaled."""
    before, after = max(different, len(np.unique(values))), len(np.unique(scaled))
    if 2 * after < before:
        raise Refused(
            f"of the {before} different values of column {name!r} only {after} stay different when they are scaled",
            remedy="declare a narrower range, subtract what they have in common, or declare categories",
            where="ranges",
        )


def check_classes(words: Sequence[str], name: str) -> None:
    """Refuse a label column ``name`` whose words ``(n,)`` are too many to be classes, or measurements.

    Raises Refused: too many labels for classes.
    """
    present = set(words)
    numbers = all(NUMBER.fullmatch(word) for word in present)
    fractions = numbers and not all(float(word).is_integer() for word in present)
    marked = not numbers and bool(measured_words(words))
    if marked or len(present) > (_MANY_FRACTIONS if fractions else _MANY):
        raise Refused(
            f"the label column {name!r} holds {len(present)} different {_shown(numbers, marked)}: "
            "classification needs classes",
            remedy=(f"for numbers write target = {name!r} and task = {{ kind = 'regression', ... }}; else " * numbers)
            + "group them into classes in the file, name another label, or declare its categories",
            where="label",
        )


def _shown(numbers: bool, marked: bool) -> str:
    return "numbers" if numbers else "words that hold numbers" if marked else "words"


def encode_words(values: npt.NDArray[Any], declared: tuple[str, ...] | None, name: str, rows: Sequence[int]) -> Encoded:
    """A column of words ``(n,)``, one feature for each declared category, or else for each that occurs.

    ``rows`` are their numbers in the table.

    Raises Refused: an undeclared category, or a column of identifiers.
    """
    present = sorted(set(values.tolist()))
    unknown = [] if declared is None else [word for word in present if word not in declared]
    if unknown:
        row = rows[values.tolist().index(unknown[0])]
        raise Refused(
            f"column {name!r}, row {row}, holds {unknown[0]!r}, which is not among its declared categories",
            remedy="declare every category, or drop these rows",
            where="categories",
        )
    named = len(present) == len(values) >= _FEW_ROWS and not all(map(NUMBER.fullmatch, present))
    if declared is None and (len(present) > _MANY or named):
        raise Refused(
            f"column {name!r} holds {len(present)} different words: it looks like an identifier",
            remedy="drop it, or declare its categories",
            where="drop",
        )
    if declared is None:
        check_words_apart(values.tolist(), rows, name)
    words = declared or tuple(present)
    one_hot = values[:, None] == np.array(words, dtype=object)[None]
    return Encoded(one_hot.astype(np.float32), declared is None, words=words)


def check_no_marks(values: Sequence[str], rows: Sequence[int], name: str) -> None:
    """Refuse a mark without a letter or figure: as a category it would make one kind of all that is not known.

    Raises Refused: a value is such a mark, ``+`` and ``-`` together aside.
    """
    marks = sorted(word for word in set(values) if is_blank_mark(word, values))
    if marks:
        raise Refused(
            f"column {name!r}, row {rows[values.index(marks[0])]}, holds {marks[0]!r}, which names no category",
            remedy=f'if it means a gap, set missing = ["{marks[0]}"]; else declare the categories',
            where="missing",
        )
