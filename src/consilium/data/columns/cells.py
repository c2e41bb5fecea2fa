"""A table's cell as text: what is a number, and what only looks like one.

A column is one of numbers if all its texts are (12, -0.5, 1e3), or all are true or false.  If most of them are, or look
like numbers with a mark (45,000, 23%, 5 mg), as programs export them ('45, ="45", (5), 5-, 1.5D2), or dates, the others
are mistakes: they are refused by row, unless the column's categories are declared.  A few comparisons (<5, >10) and
intervals (5-10) are categories.  Nothing is guessed of what a mark means.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused
from consilium.data.columns.measured_words import measured_words
from consilium.data.columns.spelling import NUMBER, UNSEEN, with_point

__all__ = ["numbers", "plain_words"]

_UNIT = r"(?:[%‰€$£]|°[CFKcfk]?|\s[^\d\s]{1,8}|(?!(?i:st|nd|rd|th)\Z)(?:[^\W\d_]{2,8}|[glLmshdykK])(?:/\w{1,8})*)"
_MARKED = re.compile(rf"(?P<mark>[<>≤≥~≈$€£±]?=?)\s*[+\-−–]?\s*\d[\d.,'’\s]*(?P<unit>{_UNIT}?)")
_MONTH = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DATE = re.compile(
    r"(?:\d{4}[-/]\d{1,2}|\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2\d{2,4})(?:[T\s].*)?|\d{1,2}:\d{2}(?::\d{2}.*)?"
    rf"|(?:\d{{1,2}}\.?[-\s]?)?{_MONTH}[-,\s]+\d{{2,4}}|{_MONTH}\s\d{{1,2}},?\s\d{{4}}"
)
_PAIR = re.compile(r"\d{2,3}\s?/\s?\d{2,3}")
_COMMA = 'take the comma out, or set decimal = "," if it is the decimal mark'
_POINT = 'write its decimal mark as a comma, or set decimal = "."'
_GROUPED = {
    _COMMA: (",", re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")),
    _POINT: (".", re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+")),
}
"""The marks in numbers whose digits may stand in groups of three."""
_DIGITS = r"\d[\d.,'’\s]*"
_ALONE = "write the number alone, or drop the column"
_SPAN = r"(?i:y|yrs?|years?|m|mo|mths?|months?|w|wks?|weeks?|d|days?|h|hrs?|hours?|min|mins|minutes?|s|sec)"
_EXPORTED = (
    (rf"['’‘`´]\s*[+-]?{_DIGITS}", "take the apostrophe out, with which spreadsheets mark text"),
    (rf'=\s*"\s*[+-]?{_DIGITS}"', "export values and no formulas: take the sign = and the quotes out"),
    (rf"[-−–]?[€$£]?\(\s*[€$£]?\s*{_DIGITS}[%€$£]?\s*\)", "write a negative number with '-' and without brackets"),
    (rf"{_DIGITS}[-−–]", "write its minus sign in front of the number"),
    (r"[+-]?(?:\d+[.,]\d*|[.,]\d+|\d+(?=[dD][+-]))[dDeE][+-]?\d+", "write it with a point and an e, as in 1.5e2"),
    (r"[+-]?0(?:[xX][\da-fA-F]+|[bB][01]+|[oO][0-7]+)", "write it as a decimal number, as in 76 for 0x4c"),
    (rf"[+-]?\d+(?:{UNSEEN}+\d+)+(?:[.,]\d*)?", "take the blanks between its digits out"),
    (rf"[+-]?{_DIGITS}(?:±|\+/-|\+-)\s*{_DIGITS}", "store the number and its error in a column each"),
    (rf"[+-]?(?:{_DIGITS}[x×*·]\s?)?10(?:\^|\*\*|e)[+-]?\d+", "write powers of ten with an e, as in 1e5"),
    (rf"[+-]?\d*[.,]\d+\s?[*†‡§#^!]+|[*†‡§]+\s?[+-]?{_DIGITS}", "take the mark out of the cell"),
    (r"[+-]?(?:\d+\s?)?[¼½¾⅓⅔⅛⅜⅝⅞]", "write fractions as decimals, as in 1.5 for 1½"),
    (rf"(?:\d+\s?{_SPAN}[,\s]*){{2,}}", "write the duration in one unit, as in 27 for 2y3m"),
    (
        rf"[+-]?{_DIGITS}\(\s*[+-]?{_DIGITS}(?:[-–,;]\s*{_DIGITS})?\)",
        "store each of the numbers in a column of its own",
    ),
)
"""Numbers as accountants, spreadsheets, SAP, Fortran, devices and tables in papers write them, and what to do."""
_HINTS = (
    *((re.compile(looks), hint) for looks, hint in _EXPORTED),
    (_DATE, "turn dates into a number such as an age, or drop the column"),
    (_PAIR, "store each of the two numbers in a column of its own"),
    (re.compile(r"[−–].*"), "write its minus sign as '-'"),
    (re.compile(r"[+-]?\d+,\d+"), _COMMA),
    (re.compile(r"[+-]?\d+\.\d+"), _POINT),
    (re.compile(r"[<>≤≥].*"), "mend the cell, or add it to missing"),
    (_MARKED, "take the mark or the unit out of the cell"),
)
"""What to do about a text that looks like this; the first that fits."""
_LOOKS = (_MARKED, _DATE, _PAIR, *(re.compile(looks) for looks, _ in _EXPORTED))
_FLAGS = {"True": 1.0, "TRUE": 1.0, "true": 1.0, "False": 0.0, "FALSE": 0.0, "false": 0.0}
_FEW = 20
"""So many different comparisons may be categories (<5, >10); more are measurements."""


def numbers(
    texts: Sequence[str], rows: Sequence[int], name: str, *, declared: bool, decimal: str = "."
) -> npt.NDArray[np.float64] | None:
    """The texts ``(n,)`` of column ``name`` as numbers, or None for a column of words.

    ``rows`` are their numbers in the table.  Refused, by the first cell: one that is no number among numbers.
    """
    flags = [_FLAGS.get(text) for text in texts]
    if not declared and None not in flags:
        return np.array(flags, dtype=np.float64)
    swapped = [with_point(text, decimal) for text in texts]
    bad = [i for i, text in enumerate(swapped) if not NUMBER.fullmatch(text)]
    if not bad:
        return np.array(swapped, dtype=object).astype(np.float64)
    hint = _hint([texts[i] for i in bad])
    if declared:
        raise _refusal(texts[bad[0]], rows[bad[0]], name, "its range is declared", hint, "ranges")
    marked = {texts[i] for i in bad if any(looks.fullmatch(texts[i]) for looks in _LOOKS)}
    if len(bad) == len(texts) and len(marked) <= _FEW:
        marked = _measurements(marked)
    alike = len(texts) - len(bad) + sum(texts[i] in marked for i in bad)
    if 2 * alike >= len(texts):
        why = f"{alike} of its {len(texts)} values are numbers, or look like numbers or dates"
        raise _refusal(texts[bad[0]], rows[bad[0]], name, why, f"{hint}, or declare its categories")
    why = measured_words(texts)
    if not why:
        return None
    place = next((i for i in bad if re.search(r"\d", texts[i])), bad[0])
    raise _refusal(texts[place], rows[place], name, why, f"{_hint([texts[place]], _ALONE)}, or declare its categories")


def _hint(bad: Sequence[str], otherwise: str = "mend the cell, or add it to missing") -> str:
    """What to do about the first of the texts that are no numbers; ``otherwise`` where none of ``_HINTS`` fits.

    No other decimal mark is offered where the marks seem to part thousands: each number would be divided by a thousand.
    """
    hint = next((hint for looks, hint in _HINTS if looks.fullmatch(bad[0])), otherwise)
    mark, grouped = _GROUPED.get(hint, ("", _PAIR))
    if not mark or not all(grouped.fullmatch(text) for text in bad if mark in text):
        return hint
    name = "comma" if mark == "," else "point"
    read = bad[0].replace(mark, ".", 1)
    return f'take the {name} out if it parts thousands, as it seems (decimal = "{mark}" would read {bad[0]} as {read})'


def _measurements(marked: Collection[str]) -> set[str]:
    """The marked numbers, if few, that are no category: not a comparison, nor a unit that occurs only once."""
    parts = {text: _MARKED.fullmatch(text) for text in marked}
    units = Counter(part["unit"].strip() for part in parts.values() if part)
    return {
        text
        for text, part in parts.items()
        if part is None
        or (part["mark"][:1] not in tuple("<>≤≥") and (units[part["unit"].strip()] > 1 or not part["unit"].isalpha()))
    }


def plain_words(texts: Sequence[str]) -> list[str]:
    """Words unchanged; where all are whole numbers written with a point (1.0), without it."""
    whole = all(re.fullmatch(r"[+-]?\d+\.0+", text) for text in texts)
    return [text.partition(".")[0] for text in texts] if whole else list(texts)


def _refusal(text: str, row: int, name: str, why: str, remedy: str, where: str = "") -> Refused:
    shown = text if len(text) <= 40 else text[:40] + "..."
    return Refused(
        f"column {name!r} does not hold numbers: row {row} has {shown!r}, and {why}", remedy=remedy, where=where
    )
