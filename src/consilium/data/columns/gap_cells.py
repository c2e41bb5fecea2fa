"""Which cells of a column are a word for a gap: as text, or as another spelling of the same number.

-9 is -9.0 and, where the decimal mark is a comma, -9,0.  In a column of numbers 0 is 00, .0 and 0e0 too; in one of
words a cell with leading zeros is a code, and 09 is not 9.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from consilium.data.checks.gap_words import GAPS
from consilium.data.columns.spelling import NUMBER, exact, with_point

__all__ = ["texts_among"]

_PLAIN_NUMBER = re.compile(r"[+-]?(?!0\d)\d+(?:\.\d*)?")


def texts_among(texts: Collection[str], words: Collection[str], decimal: str = ".") -> set[str]:
    """Those of ``texts``, the different cells of a column, that are one of ``words`` or the number that one writes.

    ``decimal`` is the decimal mark of the cells; a word may have a point as well.
    """
    same = {text for text in texts if text in words}
    numbers = {exact(number) for word in words for number in _readings(word, decimal) if NUMBER.fullmatch(number)}
    if not numbers:
        return same
    points = {text: with_point(text, decimal) for text in texts}
    known = [point for text, point in points.items() if text not in words and text not in GAPS]
    of_numbers = 2 * sum(NUMBER.fullmatch(point) is not None for point in known) >= len(known)
    spelling = NUMBER if of_numbers else _PLAIN_NUMBER
    return same | {text for text, point in points.items() if spelling.fullmatch(point) and exact(point) in numbers}


def _readings(word: str, decimal: str) -> tuple[str, str]:
    return word, with_point(word, decimal)
