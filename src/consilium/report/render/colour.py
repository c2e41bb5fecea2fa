"""Colours for colour-blind readers: cividis for amounts, orange and blue for worse and better; text by contrast.

Nine anchors of cividis (Nunez, Anderton & Renslow 2018, CC0), linear between them; orange and blue of Okabe and Ito
2008, from nearly white to full.  Text is chosen by the relative luminance of WCAG 2, so a number written on a colour is
always readable.
"""

from __future__ import annotations

__all__ = ["cividis", "ink", "leaning"]

_ANCHORS = (
    (0, 34, 78),
    (18, 53, 112),
    (59, 73, 108),
    (87, 93, 109),
    (112, 113, 115),
    (138, 134, 120),
    (165, 156, 116),
    (195, 179, 105),
    (254, 232, 56),
)
_WORSE, _BETTER, _PALE = (230, 120, 0), (0, 114, 178), (242, 240, 235)
_FAINTEST = 0.25
"""A colour says that there is something, so the least of it is seen."""


def cividis(share: float) -> str:
    """``#rrggbb`` for a share in [0, 1]; values outside are clipped."""
    place = min(max(share, 0.0), 1.0) * (len(_ANCHORS) - 1)
    first = min(int(place), len(_ANCHORS) - 2)
    rest = place - first
    pairs = zip(_ANCHORS[first], _ANCHORS[first + 1], strict=True)
    return "#" + "".join(f"{round(a + rest * (b - a)):02x}" for a, b in pairs)


def leaning(share: float) -> str:
    """``#rrggbb`` from full orange at -1 (worse) to full blue at 1 (better); values outside are clipped."""
    size = _FAINTEST + (1 - _FAINTEST) * min(abs(share), 1.0)
    pairs = zip(_PALE, _BETTER if share > 0 else _WORSE, strict=True)
    return "#" + "".join(f"{round(a + size * (b - a)):02x}" for a, b in pairs)


def ink(background: str) -> str:
    """``#000000`` or ``#ffffff``, whichever has more contrast on ``#rrggbb``."""
    red, green, blue = (_linear(int(background[i : i + 2], 16) / 255) for i in (1, 3, 5))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)
