"""Spellings of a word: invisible differences are removed, look-alikes are refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import partial

from consilium.core.errors import Refused
from consilium.data.checks.look_alikes import drawn, visible_difference

__all__ = ["NUMBER", "UNSEEN", "check_words", "check_words_apart", "exact", "plain_text", "with_point"]

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|[iI]nf(?:inity)?)")
"""A number as text."""

UNSEEN = (
    r"[\s\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0]"
)
"""Blanks of every kind and characters that have no width."""
_AROUND = re.compile(rf"\A{UNSEEN}+|{UNSEEN}+\Z")
_ANYWHERE = re.compile(UNSEEN)
_SAYINGS = (("true", "1", "yes"), ("false", "0", "no"), ("y", "yes"), ("n", "no"), ("t", "true"), ("f", "false"))
"""Words of one answer."""


def plain_text(text: str) -> str:
    """``text`` without blanks and invisible characters around it, and with each accented letter as one character.

    Source: Unicode Standard Annex 15 (NFC)
    """
    return text.strip() if text.isascii() else _AROUND.sub("", unicodedata.normalize("NFC", text))


def exact(number: str) -> Decimal:
    """A number as text, to the last digit; as a float (0 or infinite) where its exponent is beyond all bounds."""
    try:
        return Decimal(number)
    except InvalidOperation:
        return Decimal(float(number))


def with_point(text: str, decimal: str) -> str:
    """``text`` with the mark ``decimal`` as a point; empty, so that it is no number, where a point is no such mark."""
    if decimal == ".":
        return text
    return "" if "." in text else text.replace(decimal, ".")


def check_words_apart(words: Sequence[str], rows: Sequence[int], name: str) -> None:
    """Refuse two words ``(n,)`` of column ``name`` that differ only by case, blanks or how a number is written, that
    look alike, or that mean the same (True and 1); ``rows`` are their numbers in the table.

    Raises Refused: two words that look alike.
    """
    first = dict(zip(reversed(words), reversed(rows), strict=True))
    spelt: dict[object, str] = {}
    for word in sorted(first, key=first.__getitem__):
        others = [spelt.setdefault(key, word) for key in (_alike(word), ("drawn", drawn(word)), *_sayings(word))]
        other = next((one for one in others if one != word), None)
        if other is not None:
            raise Refused(
                f"column {name!r} holds {other!r} and, in row {first[word]}, {word!r}{visible_difference(other, word)}",
                remedy="is it one category? write it one way in the file, or declare both in categories",
                where="categories",
            )


def _sayings(word: str) -> list[object]:
    """The same for words that both say yes, or no."""
    plain = re.sub(r"\.0+\Z", "", word.casefold())
    return [("says", answer) for answer in _SAYINGS if plain in answer]


def _alike(word: str) -> object:
    """The same for all spellings of a word."""
    if NUMBER.fullmatch(word):
        return exact(word)
    return ("word", unicodedata.normalize("NFKC", _ANYWHERE.sub("", word)).casefold())


def check_words(words: Sequence[str], where: str, *, empty: bool = False, alike: bool = False) -> None:
    """Refuse two declared words that are one when they are ``plain``, or look alike where these are ``alike`` too.

    Refused too: a blank one unless ``empty`` is a word.

    Raises Refused: a blank word, or two that look alike.
    """
    read = partial(drawn, capitals=True) if alike else plain_text
    spellings: dict[str, str] = {}
    for word in words:
        if not plain_text(word) and not empty:
            raise Refused(f"{word!r} has no visible character", remedy="give it a name", where=where)
        other = spellings.setdefault(read(word), word)
        if other != word:
            names = f"{other!r} and {word!r}{visible_difference(other, word)}"
            reason = f"{names} are one name: they differ in nothing that can be seen"
            raise Refused(reason, remedy="name each once", where=where)
