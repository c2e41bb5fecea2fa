"""A figure over an amount of attack: one line an arm, each of its points with its own interval and number of records.

Intervals are pointwise: each is at 95 % for its own point, and all of them together hold less often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from consilium.measure.intervals import across_seeds, wilson
from consilium.report.analyse.summary import Figure, Row

__all__ = ["CurveLine", "CurvePanel", "CurvePlot", "CurvePoint", "curve_line", "point_of", "share_point"]


@dataclass(frozen=True)
class CurvePoint:
    """A figure at ``x``; ``n`` records behind each of ``seeds`` values."""

    x: float
    value: float
    low: float | None
    high: float | None
    n: int
    seeds: int = 1


@dataclass(frozen=True)
class CurveLine:
    """One arm; ``remark`` is why its figures are not to be taken as they stand, empty where they are."""

    code: str
    arm: str
    remark: str
    points: tuple[CurvePoint, ...]

    def at(self, x: float) -> CurvePoint | None:
        """Its point at ``x``, if it has one there."""
        return next((point for point in self.points if point.x == x), None)


@dataclass(frozen=True)
class CurvePanel:
    """Lines of one measure."""

    measure: str
    lines: tuple[CurveLine, ...]


@dataclass(frozen=True)
class CurvePlot:
    """Panels over the same ``x``; ``dense``: so many points that each is no mark; ``listed`` are those of its table.

    ``left_out`` are arms that have no line, because they collapsed.
    """

    title: str
    x: str
    panels: tuple[CurvePanel, ...]
    listed: tuple[float, ...]
    dense: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def rising(self) -> bool:
        """True where some line of the first panel is higher at a larger ``x`` than at the one before."""
        values = [[point.value for point in line.points] for line in self.panels[0].lines]
        return any(b > a for line in values for a, b in pairwise(line))

    def drawn(self) -> Mapping[str, object]:
        """Plain JSON for the page's script."""
        panels = [{"y": panel.measure, "lines": [_drawn(line) for line in panel.lines]} for panel in self.panels]
        return {"x": self.x, "dense": self.dense, "panels": panels}


def share_point(x: float, counts: Sequence[tuple[int, int]]) -> CurvePoint:
    """The mean over seeds of the shares ``k`` of ``n``: Wilson's interval of one seed, Student's t over several."""
    mean, low, high = across_seeds([k / n for k, n in counts])
    if len(counts) == 1:
        low, high = wilson(*counts[0])
    return CurvePoint(x, mean, *_cut(low, high), min(n for _, n in counts), len(counts))


def point_of(x: float, figure: Figure | None) -> CurvePoint | None:
    """A figure of the matrix at ``x``; None where it has no value."""
    if figure is None or figure.value is None:
        return None
    return CurvePoint(x, figure.value, *_cut(figure.low, figure.high), figure.n, figure.seeds)


def curve_line(row: Row, points: Sequence[CurvePoint | None], remark: str = "") -> CurveLine:
    """The line of an arm, with the points that it has."""
    return CurveLine(row.code, row.arm.name, remark, tuple(p for p in points if p is not None))


def _cut(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Cutting at the range of a share loses no coverage."""
    return (None, None) if low is None or high is None else (max(0.0, low), min(1.0, high))


def _drawn(line: CurveLine) -> Mapping[str, object]:
    return {
        "code": line.code,
        "arm": line.arm,
        "remark": line.remark,
        "x": [_short(p.x) for p in line.points],
        "y": [_short(p.value) for p in line.points],
        "l": [_short(p.low) for p in line.points],
        "h": [_short(p.high) for p in line.points],
        "n": [p.n for p in line.points],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
