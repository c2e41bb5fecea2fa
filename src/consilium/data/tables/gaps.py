"""The gaps of a table: where nothing is known, and what stands there instead, if the study declares it.

    missing = ["?", ["chol", "0"]]        words that mean a gap: in every column, or in one
    fill = { chol = 240, thal = "unknown" }   a public constant for each column: a number, or a category (of its own)
    mark-missing = ["chol"]                   one more feature, 1 where the value was missing

A constant is the study's own and no statistic of the records, so it carries no charge (LAWS 9).  Rows with other gaps
are left out where the study allows it, else they are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused
from consilium.data.columns.encoding import Encoded
from consilium.data.columns.spelling import NUMBER, check_words, check_words_apart, plain_text
from consilium.data.tables.frame import check_missing, gaps_of

__all__ = [
    "Constant",
    "Fill",
    "check_fill",
    "constants_text",
    "fill_remedy",
    "filled",
    "gap_frame",
    "idle_constants",
    "marked",
    "plain_missing",
    "with_constant",
    "word_of",
]

Constant = str | float | bool
Fill = Mapping[str, Constant]
_Missing = tuple[str | tuple[str, ...], ...]


def plain_missing(missing: _Missing) -> _Missing:
    """Every word in the form of the cells."""
    return tuple(plain_text(one) if isinstance(one, str) else tuple(map(plain_text, one)) for one in missing)


def gap_frame(frame: Any, missing: _Missing, listed: Mapping[str, Sequence[str]], decimal: str) -> Any:
    """The gaps of ``frame`` as a frame of bool; ``listed`` are the declared words of a column, which are no gaps.

    ``decimal`` is the mark in the numbers of its texts.

    Raises Refused: a word that no cell holds, or a column that is not there.
    """
    everywhere = [one for one in missing if isinstance(one, str)]
    check_missing(frame, everywhere, decimal)
    by_column: dict[str, list[str]] = {}
    for name, *words in (one for one in missing if not isinstance(one, str)):
        check_missing(frame[[name]], words, decimal)
        by_column.setdefault(name, []).extend(words)
    gaps = frame.isna()
    for name in frame.columns:
        words = [*everywhere, *by_column.get(name, ())]
        gaps[name] = gaps_of(frame[[name]], words, listed, decimal)[name]
    return gaps


def check_fill(fill: Fill, marks: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a constant outside its column's declared range, a blank one, and a mark for a column without a constant.

    Raises Refused: a constant that cannot stand in its column.
    """
    for name, constant in fill.items():
        where = f"fill.{name}" if re.fullmatch(r"[\w-]+", name) else f"fill.{json.dumps(name, ensure_ascii=False)}"
        if isinstance(constant, str):
            check_words([constant], where)
        elif not math.isfinite(constant):
            raise Refused(f"{constant} is no number that a record can have", remedy="give a finite number", where=where)
        if name not in ranges:
            continue
        low, high = ranges[name]
        number = _number(constant)
        if number is None:
            reason = f"{constant!r} is no number, and column {name!r} has the range {low:g} to {high:g}"
            raise Refused(reason, remedy="give a number of that range, or declare categories instead", where=where)
        if not low <= number <= high:
            reason = f"{constant!r} is outside the declared range of column {name!r}, {low:g} to {high:g}"
            raise Refused(reason, remedy="give a number of that range", where=where)
    for name in marks:
        if name not in fill:
            reason = f"column {name!r} is not filled, so nothing would be marked"
            raise Refused(reason, remedy=f'declare its constant: fill = {{ "{name}" = ... }}', where="mark-missing")


def filled(
    values: npt.NDArray[Any] | list[str], gap: npt.NDArray[np.bool_], constant: Constant, name: str
) -> npt.NDArray[Any]:
    """``values`` of the rows without a gap, with ``constant`` in the others: numbers or words ``(n,)``.

    Raises Refused: a word for a column of numbers, or true or false for one that has others than 1 and 0.
    """
    if isinstance(values, list):
        whole: npt.NDArray[Any] = np.empty(len(gap), dtype=object)
        whole[gap], whole[~gap] = word_of(constant), values
        return whole
    number = _number(constant)
    if number is None:
        reason = f"{constant!r} is to stand in column {name!r}, which holds numbers"
        raise Refused(reason, remedy="give a number, and mark-missing if the gap itself says something", where="fill")
    if isinstance(constant, bool) and not np.isin(values, (0, 1)).all():
        reason = f"{str(constant).lower()} is to stand in column {name!r}, which holds other numbers than 0 and 1"
        raise Refused(reason, remedy="give a number", where="fill")
    whole = np.full(len(gap), number, dtype=np.float64)
    whole[~gap] = values
    return whole


def word_of(constant: Constant) -> str:
    """A constant as a category: a whole number without its point."""
    if isinstance(constant, bool | str):
        return plain_text(str(constant))
    return str(int(constant)) if float(constant).is_integer() else str(constant)


def with_constant(listed: tuple[str, ...], constant: Constant, name: str) -> tuple[str, ...]:
    """The declared categories of column ``name``, and the constant as one of its own where it is none of them.

    Raises Refused: it is another spelling of one of them.
    """
    word = word_of(constant)
    if word in listed:
        return listed
    for other in listed:
        try:
            check_words_apart((other, word), (1, 2), name)
        except Refused as error:
            reason = f"{word!r} is to stand in column {name!r}, and {other!r} is among its declared categories"
            remedy = f"write {other!r} if it is meant; else give the gaps a word of their own"
            raise Refused(reason, remedy=remedy, where="fill") from error
    return (*listed, word)


def idle_constants(fill: Fill, gaps: Any) -> Iterator[str]:
    """Cautions on columns of ``fill`` that have no gap: a word for a gap may be lacking in ``missing``.

    They are not refused: sites of one study share its constants, whether each of them has gaps or not.
    """
    for name in fill:
        if not gaps[name].any():
            yield (
                f"column {name!r} has a constant for its gaps (fill), and no gap in the rows that are used: is a word "
                "for them lacking in missing?"
            )


def marked(gap: npt.NDArray[np.bool_]) -> Encoded:
    """The feature that is 1 where a value was missing."""
    return Encoded(gap.astype(np.float32)[:, None], private=False, range=(0.0, 1.0))


def fill_remedy(columns: Sequence[str], numeric: Sequence[str]) -> str:
    """What to write so that the gaps of ``columns`` are filled: names to paste, and no value of a record."""
    if not columns:
        return ""
    keys = [name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False) for name in columns]
    parts = ("NUMBER" if name in numeric else '"unknown"' for name in columns)
    pairs = ", ".join(f"{key} = {part}" for key, part in zip(keys, parts, strict=True))
    return f" with constants of your own: fill = {{ {pairs} }}"


def constants_text(fill: Fill) -> str:
    """The constants in one line, as sites agree on them."""
    return "; ".join(f"{name} = {word_of(constant)}" for name, constant in sorted(fill.items()))


def _number(constant: Constant) -> float | None:
    if isinstance(constant, str):
        return float(constant) if NUMBER.fullmatch(constant) else None
    return float(constant)
