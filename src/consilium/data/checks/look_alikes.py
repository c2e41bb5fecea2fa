"""Look-alike names: two that a reader takes for one differ for a program, as M and М, 5-10 and 5–10, ill and 'ill'.

Cyrillic and Greek letters become the Latin ones that they look like, every dash a hyphen, every quote an apostrophe,
and quotes around a name go.  Only letters drawn alike are folded: µg is not mg.  groÃŸ is groß: its two bytes in UTF-8
were read as two letters of Windows' own coding.

Source: Unicode Technical Standard 39 (confusable detection), the part of it that two keyboards produce
"""

from __future__ import annotations

import unicodedata

__all__ = ["drawn", "visible_difference"]

_CYRILLIC = dict(zip("АВЕІЈКМНОРСЅТУХавеіјкмнорсѕтухԛԝ", "ABEIJKMHOPCSTYXabeijkmhopcstyxqw", strict=True))
_GREEK = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαικνορ", "ABEZHIKMNOPTYXaikvop", strict=True))
_DASHES = dict.fromkeys("‐‑‒–—―−﹘﹣-", "-")
_QUOTES = dict.fromkeys('"`´‘’‚‛“”„‟′″‹›«»ʹʼ', "'")
_FOLDED = str.maketrans({**_CYRILLIC, **_GREEK, **_DASHES, **_QUOTES})


def drawn(text: str, *, capitals: bool = False) -> str:
    """The same for all texts that are drawn alike; characters of no width, extra blanks and outer quotes go.

    So do capitals, unless ``capitals`` makes them significant.

    Source: Unicode Standard Annex 15 (NFKC)
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _recoded(text).translate(_FOLDED))
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = " ".join(text.translate(_FOLDED).split())
    text = text.strip("' ") or text
    return text if capitals else text.casefold()


def _recoded(text: str) -> str:
    """``text`` whose UTF-8 was read as Windows-1252 or Latin-1, as it was meant; else as it is."""
    for coding in ("cp1252", "latin-1"):
        try:
            return text.encode(coding).decode("utf-8")
        except UnicodeError:
            continue
    return text


def visible_difference(one: str, other: str) -> str:
    """Which letter, dash or quote that was folded one of two names alone has, by its Unicode name; else empty.

    Or which one was read in another coding than it was written in.
    """
    for name, place in ((other, "second"), (one, "first")):
        if _recoded(name) != name:
            return f" (the {place} is {_recoded(name)!r} in UTF-8, read in another coding)"
    for name, second, place in ((other, one, "second"), (one, other, "first")):
        strange = [c for c in name if not c.isascii() and ord(c) in _FOLDED and c not in second]
        if strange:
            return f" (the {place} with {unicodedata.name(strange[0])})"
    return ""
