"""What an adversary gains by more sites: accuracy, and a backdoor's success, against the number of corrupted sites.

Corruptions of one kind that differ in nothing but the number or share of their sites are points of one line; the first
point is the clean twin, with no corrupted site, where the success is that of the trigger on an honest model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from consilium.report.analyse.columns import TableColumn
from consilium.report.analyse.summary import Row, figure_of
from consilium.report.load.records import StudyRecord

from .curve import CurveLine, CurvePanel, CurvePlot, CurvePoint, curve_line, point_of

__all__ = ["site_curves"]

_OF_SITES = ("sites", "site-share")
_ACCURACY = TableColumn("accuracy", "accuracy", "Utility", "", "high")


def site_curves(study: StudyRecord, rows: Sequence[Row]) -> tuple[CurvePlot, ...]:
    """One plot for each kind of corruption that the study has at two numbers of sites or more."""
    plots = (_plot(study, rows, kind, counts) for kind, counts in _series(study))
    return tuple(plot for plot in plots if plot.panels)


def _series(study: StudyRecord) -> list[tuple[str, Mapping[str, int]]]:
    """The kind, and how many sites each of its corruptions has, the fewest first."""
    groups: dict[str, dict[str, int]] = {}
    corruptions = study.resolved.get("corruptions")
    for label, knobs in (corruptions if isinstance(corruptions, Mapping) else {}).items():
        count = _count(study, label)
        if isinstance(knobs, Mapping) and count:
            rest = {knob: value for knob, value in knobs.items() if knob not in _OF_SITES}
            groups.setdefault(json.dumps(rest, sort_keys=True, default=str), {})[label] = count
    several = [(key, counts) for key, counts in groups.items() if len(set(counts.values())) > 1]
    return [(str(json.loads(key).get("kind")), dict(sorted(c.items(), key=lambda pair: pair[1]))) for key, c in several]


def _count(study: StudyRecord, label: str) -> int:
    """How many sites it held; 0 where its models do not agree on that."""
    counts = {len(cell.corrupted) for cell in study.evidence if cell.infected_by == label and cell.judged}
    return counts.pop() if len(counts) == 1 else 0


def _plot(study: StudyRecord, rows: Sequence[Row], kind: str, counts: Mapping[str, int]) -> CurvePlot:
    by = {(row.arm.name, row.infected_by): row for row in rows}
    clean = [row for row in rows if row.infected_by == "none" and row.judged]
    panels = [
        CurvePanel(measure, lines)
        for measure, key in (("accuracy", "accuracy"), ("backdoor success", "backdoor_success:{}.success"))
        if (lines := tuple(curve for row in clean if len((curve := _curve(row, by, counts, key)).points) > 1))
    ]
    total = len(study.data.sites)
    x = f"corrupted sites, of {total}" if total else "corrupted sites"
    return CurvePlot(kind, x, tuple(panels), (0.0, *map(float, dict.fromkeys(counts.values()))))


def _curve(row: Row, by: Mapping[tuple[str, str], Row], counts: Mapping[str, int], key: str) -> CurveLine:
    first = next(iter(counts))
    places = [(0, first, row), *((n, label, by.get((row.arm.name, label))) for label, n in counts.items())]
    points = [_point(float(n), one, key.format(label)) for n, label, one in places]
    return curve_line(row, points)


def _point(x: float, row: Row | None, key: str) -> CurvePoint | None:
    column = _ACCURACY if key == "accuracy" else TableColumn(key, key, "Backdoor", "", "low")
    return None if row is None else point_of(x, figure_of(row.cells, column))
