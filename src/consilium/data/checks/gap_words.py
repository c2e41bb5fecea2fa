"""Words for a missing value: gaps in a table, and never a name where patients and sites are named.

``astype(str)`` of pandas and NumPy turns a missing name into such a word, and -1 is what many programs write for it:
taken for a name, it makes one person or one hospital of all records without one.
"""

from __future__ import annotations

import re

__all__ = ["GAPS", "names_nobody"]

GAPS = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!", "#NV", "#BEZUG!", "#WERT!", "########"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
"""Texts that mean that nothing is known (pandas, spreadsheets), unless a column's declared categories name them."""

_NAMELESS = frozenset(word.casefold() for word in {*GAPS, "NaT"})
_MINUS_ONE = re.compile(r"-0*1(?:\.0*)?")


def names_nobody(name: str) -> bool:
    """Whether ``name`` is a word for a missing one, in any capitals, or -1."""
    return name.casefold() in _NAMELESS or _MINUS_ONE.fullmatch(name) is not None
