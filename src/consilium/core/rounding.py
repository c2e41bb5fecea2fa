"""Bounds as text: an upper bound is rounded up to the digits that are printed, a lower bound down.

A claim "epsilon is at most X" or a remedy "use at least X" must stay true of the X that is printed.  What is rounded is
the float to twelve digits: 0.1, 1e-5 and 0.1 + 0.2 are not raised for the error of their last bit.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

__all__ = ["round_down", "round_up"]

_EXACT = Context(prec=12)


def round_up(value: float, digits: int = 3) -> str:
    """The smallest number of ``digits`` significant digits that is at least ``value``, as ``%g`` writes it."""
    return _rounded(value, digits, ROUND_CEILING)


def round_down(value: float, digits: int = 3) -> str:
    """The largest number of ``digits`` significant digits that is at most ``value``, as ``%g`` writes it."""
    return _rounded(value, digits, ROUND_FLOOR)


def _rounded(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value):
        return f"{value:g}"
    text = Context(prec=digits, rounding=rounding).plus(_EXACT.create_decimal(Decimal(float(value))))
    return f"{float(text):.{digits}g}"
