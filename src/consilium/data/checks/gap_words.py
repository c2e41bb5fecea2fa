"""Words for a missing value: gaps in a table, and never a name where patients and sites are named.

``astype(str)`` of pandas and NumPy turns a missing name into such a word, and -1 is what many programs write for it:
taken for a name, it makes one person or one hospital of all records without one.  An error of a spreadsheet (#REF!, or
##### where a column was too narrow) stands in the place of a value that there was: it is no gap and no word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

__all__ = [
    "GAPS",
    "is_blank_mark",
    "is_spreadsheet_error",
    "means_unknown",
    "names_no_class",
    "names_nobody",
    "unknown_cautions",
]

GAPS = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
        *("#NV", "#N/D", "#Н/Д", "#N/B", "#I/T", "#YOK"),
        *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
"""Texts that mean that nothing is known (pandas, spreadsheets), unless a column's declared categories name them."""

_ERROR = re.compile(r"#{3,}|#\S{2,20}[!?]|#(?:GETTING_DATA|GEEN_GEGEVENS)|(?:Err|Fehler):\d{3}", re.IGNORECASE)
"""In any language; ##### where a column is too narrow for what it holds, Err:502 by LibreOffice."""
_UNKNOWN = re.compile(
    r"unknown|unk|not known|missing|not available|n a|na|nan|null|not recorded|not done|undetermined|unspecified"
    r"|not specified|no data|blank|empty|tbd|pending|unlabell?ed|not labelled|unclassified|unsorted|no label"
    r"|unbekannt|k a|keine angabe|inconnu|non connu|desconocido|sconosciuto|nieznany|ukjent|onbekend"
)
_NOT_A_NUMBER = frozenset({"nan", "nat", "<na>"})
_NAMELESS = frozenset(word.casefold() for word in {*GAPS, "NaT"})
_MINUS_ONE = re.compile(r"-0*1(?:\.0*)?")


def is_spreadsheet_error(text: str) -> bool:
    """Whether ``text`` is what Excel or LibreOffice show in the place of a value, in any language."""
    return _ERROR.fullmatch(text) is not None


def is_blank_mark(word: str, words: Collection[str]) -> bool:
    """Whether ``word`` is a mark without a letter or figure (?, ., --), and no answer beside + among ``words``."""
    if any(character.isalnum() for character in word):
        return False
    return not (set(word) <= {"+", "-"} and any("+" in other for other in words))


def means_unknown(word: str) -> bool:
    """Whether ``word`` says that something is not known, in a language of hospitals that keep such lists."""
    return _UNKNOWN.fullmatch(re.sub(r"[\W_]+", " ", word.casefold()).strip()) is not None


def unknown_cautions(kind: str, names: Iterable[str]) -> tuple[str, ...]:
    """A caution about each of ``names`` of classes or sites, which ``kind`` says, that says so."""
    return tuple(
        f"a {kind} is called {name!r}: if it stands for records of which the {kind} is not known, figures count them "
        f"as one {kind}; leave them out, or declare it"
        for name in names
        if means_unknown(name)
    )


def names_no_class(name: str) -> bool:
    """Whether ``name`` is what a program writes for a label that is not known; None may be a class."""
    return name.casefold() in _NOT_A_NUMBER or is_spreadsheet_error(name)


def names_nobody(name: str) -> bool:
    """Whether ``name`` is a word for a missing one, in any capitals, -1, or an error of a spreadsheet."""
    return name.casefold() in _NAMELESS or _MINUS_ONE.fullmatch(name) is not None or is_spreadsheet_error(name)
