"""Figures of a study by matplotlib, for papers and notebooks; the report draws its own.

matrix      arms x figures: each number written, and the brighter the more rows it is better than by more than both
            intervals; without colour where it differs from none
trade-off   what the strongest attack leaves of the accuracy (or what leaks) against the score, with intervals; a
            letter an arm, as in the report
roc         the membership attacks on each model, both axes logarithmic, with chance and what its claim allows
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from textwrap import fill
from typing import Any

from consilium.core.catalogue import nearest
from consilium.core.errors import MissingExtra, Refused
from consilium.report.analyse.columns import TableColumn, columns
from consilium.report.analyse.roc import rocs
from consilium.report.analyse.summary import Figure, Row, rows
from consilium.report.load.numbers import number
from consilium.report.load.records import StudyRecord

__all__ = ["plotted"]

_MOST_ROWS, _MOST_MODELS, _TITLE = 60, 12, 44
_INCH = 0.35
"""The height of a row of the matrix."""
_WIDE, _HIGH = 380.0, 245.0
"""Points of print of the axes of a trade-off, nearly."""
_ASIDE, _FAR = ((8, 7), (-8, 7), (8, -8), (-8, -8), (18, 7), (-18, 7)), 12.0
"""Where a letter may stand, the first of equals; and how much room is enough."""
_LETTER, _MOST_LINES = 0.075, 30
"""Inches of a letter of the legend, and its lines in one column."""
_DARK = 0.25
"""The shade below which white letters are read better than black ones."""
_BRIGHT = "bright: better than more of the rows, beyond both intervals; no colour: no such difference"


def plotted(study: StudyRecord, what: str) -> Any:
    """The figure ``what`` of ``study``.

    Raises MissingExtra: matplotlib is not installed.
    Raises Refused: another word, or nothing in the study to draw.
    """
    if what not in _DRAWN:
        raise Refused(f"there is no plot {what!r}", remedy=nearest(str(what)[:80], list(_DRAWN)), where="plot")
    if not any(cell.judged for cell in study.evidence):
        raise Refused(f"no model of {study.name} was judged", remedy="run the study first", where="plot")
    return _DRAWN[what](study)


def _canvas(width: float, height: float, down: int = 1, across: int = 1) -> tuple[Any, Any]:
    """A figure that no window and no global list holds, and its axes ``(down, across)``.

    Without pyplot IPython knows no picture of a figure, and would print its class alone.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise MissingExtra("Results.plot needs matplotlib", remedy="pip install consilium[notebook]") from error
    figure = Canvas(figsize=(width, height), layout="constrained")
    vars(figure)["_repr_png_"] = partial(_png, figure)
    return figure, figure.subplots(down, across, squeeze=False)


def _png(figure: Any) -> bytes:
    """What a notebook shows."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()


def _matrix(study: StudyRecord) -> Any:
    shown, every = [c for c in columns(study) if c.key != "seconds"], rows(study)[:_MOST_ROWS]
    figure, axes = _canvas(2.5 + 0.95 * len(shown), 1.6 + _INCH * len(every))
    axis = axes[0, 0]
    ranked = [[_ranked(row, column) for row in every] for column in shown]
    shades = [[_shade(ranked[k][down], c, ranked[k]) for k, c in enumerate(shown)] for down in range(len(every))]
    axis.imshow(shades, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto", alpha=0.75)
    for down, row in enumerate(every):
        for across, column in enumerate(shown):
            entry = row.figures[column.key]
            text = ("≤ " if entry.at_most else "") + number(entry.value, column.style)
            dark = shades[down][across] < _DARK  # never where it is NaN
            axis.text(across, down, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axis.set_xticks(range(len(shown)), [c.label for c in shown], rotation=40, ha="right", fontsize=8)
    axis.set_yticks(range(len(every)), [_label(row) for row in every], fontsize=8)
    axis.set_title(f"{study.name}\n{_BRIGHT}", fontsize=10)
    return figure


def _ranked(row: Row, column: TableColumn) -> Figure:
    """The figure of ``row``; empty where it is not compared: a loose bound, or the robustness of a collapsed model."""
    figure = row.figures[column.key]
    return Figure(None) if figure.upper or (column.robustness and row.collapsed) else figure


def _shade(figure: Figure, column: TableColumn, others: Sequence[Figure]) -> float:
    """From 0 (worse than every other figure of the column) to 1 (better than every other), beyond both intervals.

    NaN, which is not drawn, where it differs from none so: a colour would show noise.
    """
    if figure.value is None:
        return math.nan
    if column.chance is not None and (figure.low is None or figure.low <= column.chance):
        return math.nan  # no evidence of leakage
    low, high = _bounds(figure, column)
    bounds = [_bounds(other, column) for other in others if other.value is not None]
    above, below = sum(low > most for _, most in bounds), sum(high < least for least, _ in bounds)
    if not above and not below:
        return math.nan
    lead = (above - below if column.better == "high" else below - above) / (len(bounds) - 1)
    return (1.0 + lead) / 2.0


def _bounds(figure: Figure, column: TableColumn) -> tuple[float, float]:
    """The interval as it is compared; one without an interval is its value."""
    value = figure.value or 0.0
    ends = (value if figure.low is None else figure.low, value if figure.high is None else figure.high)
    return column.ranked(ends[0]), column.ranked(ends[1])


def _trade_off(study: StudyRecord) -> Any:
    known = {column.key: column for column in columns(study)}
    up = next((c for c in known.values() if c.group == "Utility"), None)
    robust = [c for c in known.values() if c.robustness]
    right = known.get("worst_case") or (robust[0] if robust else known.get("mia_advantage"))
    if up is None or right is None:
        reason = "a trade-off needs a figure of utility and an attack"
        raise Refused(reason, remedy="add attacks to the study", where="plot")
    points = [row for row in rows(study) if None not in (row.figures[right.key].value, row.figures[up.key].value)]
    names = [f"{code}  {name}" for code, name in dict.fromkeys((row.code, row.arm.name) for row in points)]
    legend_columns = max(1, math.ceil(len(names) / _MOST_LINES))
    wide = legend_columns * (0.4 + _LETTER * max(map(len, names), default=0))
    figure, axes = _canvas(5.5 + wide, 4.5)
    axis = axes[0, 0]
    arms = list(dict.fromkeys(row.code for row in points))
    for row in points:
        _point(axis, row, right, up, f"C{arms.index(row.code) % 10}")
    _name_points(axis, [(_drawn(row.figures[right.key]), _drawn(row.figures[up.key]), row.code) for row in points])
    axis.set(xlabel=_across(right), ylabel=up.label)
    infected = any(row.infected_by != "none" for row in points)
    axis.set_title(f"{study.name}{': hollow is infected' * infected}", fontsize=10)
    handles = [axis.plot([], [], linestyle="none", label=name)[0] for name in names]
    figure.legend(
        handles=handles, loc="outside right upper", fontsize=7, ncols=legend_columns, handlelength=0, handletextpad=0
    )
    return figure


def _across(column: TableColumn) -> str:
    """What the horizontal axis says."""
    if column.key == "worst_case":
        return "accuracy under every attack, at most"
    return f"accuracy under {column.label}, at most" if column.robustness else f"membership {column.label}"


def _point(axis: Any, row: Row, right: TableColumn, up: TableColumn, colour: str) -> None:
    """A mark in the colour of its arm, hollow where it is infected."""
    x, y = row.figures[right.key], row.figures[up.key]
    look = {"color": colour} | ({} if row.infected_by == "none" else {"markerfacecolor": "none"})
    axis.errorbar([x.value], [y.value], xerr=_reach(x), yerr=_reach(y), fmt="o", capsize=2, **look)


def _drawn(figure: Figure) -> float:
    return figure.value or 0.0


def _name_points(axis: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's letter beside it, on the side where the nearest mark or letter is farthest."""
    across_limits, up_limits = axis.get_xlim(), axis.get_ylim()
    places = [(_WIDE * _share(x, across_limits), _HIGH * _share(y, up_limits)) for x, y, _ in points]
    occupied = list(places)
    for (x, y, code), (across, up) in zip(points, places, strict=True):
        others = [place for place in occupied if place != (across, up)]
        aside = max(_ASIDE, key=lambda offset: _room(across + offset[0], up + offset[1], others))
        occupied.append((across + aside[0], up + aside[1]))
        axis.annotate(code, (x, y), xytext=aside, textcoords="offset points", fontsize=8, ha="center", va="center")


def _share(value: float, limits: tuple[float, float]) -> float:
    """Where ``value`` lies, from 0 at one of the ``limits`` of an axis to 1 at the other."""
    return (value - limits[0]) / (limits[1] - limits[0])


def _room(across: float, up: float, others: Sequence[tuple[float, float]]) -> float:
    """The distance to the nearest of ``others`` in points of print, as far as it matters."""
    return min((min(_FAR, math.hypot(across - x, up - y)) for x, y in others), default=_FAR)


def _reach(figure: Figure) -> list[list[float]] | None:
    """How far the interval reaches below and above the value."""
    if figure.value is None or figure.low is None or figure.high is None:
        return None
    return [[max(0.0, figure.value - figure.low)], [max(0.0, figure.high - figure.value)]]


def _roc(study: StudyRecord) -> Any:
    models = [(cell, curves) for cell in study.evidence if cell.judged and (curves := rocs(cell)) is not None]
    if not models:
        reason = f"{study.name} has no scores of a membership attack"
        raise Refused(reason, remedy='add one to the study, such as { kind = "loss-threshold" }', where="plot")
    cut = f": the first {_MOST_MODELS} of {len(models)} models" if len(models) > _MOST_MODELS else ""
    models = models[:_MOST_MODELS]
    across = min(3, len(models))
    down = -(-len(models) // across)
    figure, axes = _canvas(3.4 * across, 3.2 * down, down, across)
    for axis, (cell, curves) in zip(axes.flat, models, strict=False):
        _curves(axis, curves)
        infected = "" if cell.infected_by == "none" else f"\ninfected by {cell.infected_by}"
        axis.set_title(f"{fill(f'{cell.arm}, seed {cell.seed}', _TITLE)}{infected}", fontsize=8)
    for axis in list(axes.flat)[len(models) :]:
        axis.set_axis_off()
    figure.suptitle(f"{study.name}{cut}", fontsize=10)
    figure.supxlabel("false positive rate", fontsize=9)
    figure.supylabel("true positive rate", fontsize=9)
    return figure


def _curves(axis: Any, rates: Mapping[str, Any]) -> None:
    axis.plot(rates["chance"], rates["chance"], color="grey", linestyle=":", label="chance")
    if rates["bound"] is not None:
        bound = rates["bound"]
        axis.plot(bound["x"], bound["y"], color="black", linestyle="--", label=f"ε = {bound['epsilon']:g} allows")
    for curve in rates["curves"]:
        axis.plot(curve["x"], curve["y"], label=curve["name"])
    axis.set(xscale="log", yscale="log")
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=6)


def _label(row: Row) -> str:
    return row.arm.name if row.infected_by == "none" else f"{row.arm.name}, {row.infected_by}"


_DRAWN: Mapping[str, Callable[[StudyRecord], Any]] = {"matrix": _matrix, "trade-off": _trade_off, "roc": _roc}
