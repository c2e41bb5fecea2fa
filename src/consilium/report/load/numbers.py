"""Numbers as people read them: three digits for shares, SI prefixes for bytes, a dash where there is no number.

``epsilon`` is the style of upper bounds, rounded up; ``audited`` that of lower bounds, rounded down.
"""

from __future__ import annotations

import re
from typing import Literal

from consilium.core.finding import Measure
from consilium.core.rounding import round_down, round_up

__all__ = ["Style", "interval", "number", "style_of"]

Style = Literal["share", "difference", "percent", "epsilon", "audited", "bytes", "ratio", "seconds", "count", "plain"]
_MINUS = "\N{MINUS SIGN}"


def number(value: float | None, style: Style = "share") -> str:
    """``value`` written in ``style``; a dash where there is none."""
    if value is None:
        return "–"
    if style == "bytes":
        return _bytes(value)
    if style == "seconds":
        return _seconds(value)
    return _plain(value, style).replace("-", _MINUS)


def interval(low: float | None, high: float | None, style: Style = "share") -> str:
    """``low – high`` in ``style``; empty where there is none."""
    if low is None or high is None:
        return ""
    return f"{number(low, style)} – {number(high, style)}"


def style_of(measure: Measure) -> Style:
    """How to write a measure of which only name and unit are known."""
    unit = measure.unit.lower()
    if unit in ("bytes", "b", "byte") or measure.name.startswith("bytes"):
        return "bytes"
    if unit in ("s", "seconds"):
        return "seconds"
    if unit == "rounds":
        return "count"
    if unit == "epsilon":  # an audit's: no study measures an upper bound
        return "audited"
    if measure.name.endswith("_bound"):  # what a claim allows at most
        return "epsilon"
    return "ratio" if measure.name.endswith("ratio") else "plain"


def _plain(value: float, style: Style) -> str:
    if style in ("difference", "percent"):
        return f"{value:+.3f}" if style == "difference" else re.sub(r"^[+-]0 ", "0 ", f"{100 * value:+.0f} %")
    if style == "ratio":
        return f"{value:.2f}×"
    if style in ("epsilon", "audited"):
        text = round_up(value) if style == "epsilon" else round_down(value)
        return re.sub(r"e([+-])0", r"e\1", text).replace("e+", "e")
    if style == "count":
        return f"{value:.0f}" if value == round(value) else f"{value:.1f}"
    if style == "share":
        return f"{value:.3f}"
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def _seconds(value: float) -> str:
    if value >= 3600:
        return f"{value / 3600:.1f} h"
    if value >= 60:
        return f"{value / 60:.1f} min"
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
