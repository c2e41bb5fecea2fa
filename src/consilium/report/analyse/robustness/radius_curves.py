"""Robust accuracy against the radius: what an adversary with a larger budget would have left of each arm.

    of a minimum-norm attack    accuracy(r) = share of the test records with a distance above r, for every r at once
    of attacks at several radii the robust accuracy of each, where they differ in the radius alone, from the clean one

The distance of a record is that of the nearest adversarial input that was found, 0 where the answer is wrong without
one: the true curve is at most this.  Clean arms alone; collapsed ones have no line (LAWS 19).

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, arXiv 1902.06705 (section 4.3: curves)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.report.analyse.columns import TableColumn
from consilium.report.analyse.summary import Row, figure_of
from consilium.report.load.records import FindingRecord, StudyRecord
from consilium.report.load.scores import read_records

from .curve import CurveLine, CurvePanel, CurvePlot, CurvePoint, curve_line, point_of, share_point

__all__ = ["radius_curves"]

_STEPS = 40
_WITHIN = 1e-6
"""By how much float32 may oversize a distance: as in the attack's own figure."""
_MOST = 0.98
"""The share of the finite distances that the axis holds, so that a few far ones do not squeeze the others."""
_ACCURACY = TableColumn("accuracy", "accuracy", "Utility", "", "high")
_Distances = NDArray[np.float64]


def radius_curves(study: StudyRecord, rows: Sequence[Row]) -> tuple[CurvePlot, ...]:
    """One plot for each minimum-norm attack with its distances in the folder, and for each attack at several radii."""
    clean = [row for row in rows if row.infected_by == "none" and row.judged]
    fair, collapsed = [row for row in clean if not row.collapsed], [row.code for row in clean if row.collapsed]
    kinds = {name: _configuration(study, name) for name in study.attacks("evasion")}
    plots = [_of_distances(fair, name, knobs, tuple(collapsed)) for name, knobs in kinds.items()]
    plots += [_of_radii(fair, names, kinds, tuple(collapsed)) for names in _series(kinds)]
    return tuple(plot for plot in plots if plot is not None)


def _configuration(study: StudyRecord, name: str) -> Mapping[str, Any]:
    findings = (f for cell in study.evidence for f in cell.aimed("evasion") if f.name == name)
    return next((f.configuration for f in findings if f.configuration), {})


def _of_distances(
    rows: Sequence[Row], name: str, knobs: Mapping[str, Any], left_out: tuple[str, ...]
) -> CurvePlot | None:
    known = [(row, distances) for row in rows if (distances := _distances(row, name))]
    finite = [one[np.isfinite(one) & (one > 0)] for _, seeds in known for one in seeds]
    if not known or not sum(map(len, finite)):
        return None
    stated = _radius(knobs)
    most = max(float(np.quantile(np.concatenate(finite), _MOST)), 0.0 if stated is None else stated)
    listed = () if stated is None else tuple(r for r in (0.0, stated / 2, stated, 2 * stated) if r <= most)
    grid = np.unique([*np.linspace(0, most, _STEPS + 1), *listed]).tolist()
    if knobs.get("norm") == "l0":  # a number of features
        grid = sorted({float(round(r)) for r in grid} | set(listed))
    lines = tuple(curve_line(row, [_point(r, seeds) for r in grid], _remark(row, name)) for row, seeds in known)
    return CurvePlot(
        f"{name}, the smallest perturbations",
        _axis(knobs),
        (CurvePanel("accuracy under attack", lines),),
        listed,
        True,
        left_out,
    )


def _point(radius: float, seeds: Sequence[_Distances]) -> CurvePoint:
    return share_point(radius, [(int((one > radius + _WITHIN).sum()), len(one)) for one in seeds])


def _distances(row: Row, name: str) -> list[_Distances]:
    """Those of each seed whose figure is defined; empty where no file holds any."""
    findings = [f for cell in row.cells if cell.judged for f in cell.aimed("evasion") if f.name == name and _valued(f)]
    arrays = [read_records(finding.file).get("distance") for finding in findings]
    return [one.astype(np.float64) for one in arrays if one is not None and len(one)]


def _valued(finding: FindingRecord) -> bool:
    measure = finding.measure("robust_accuracy")
    return measure is not None and measure.value is not None


def _remark(row: Row, *names: str) -> str:
    """Why the line is no evidence of robustness, or a loose bound; empty where it is neither."""
    loose = any(f.upper_bound for cell in row.cells for f in cell.aimed("evasion") if f.name in names)
    return ", ".join((["red flag"] if row.red_flags else []) + (["loose bound"] if loose else []))


def _series(kinds: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The attacks that differ in the radius alone, smallest first, where there are two or more."""
    groups: dict[str, list[str]] = {}
    for name, knobs in kinds.items():
        if _radius(knobs) is not None:
            rest = {knob: value for knob, value in knobs.items() if knob != "radius"}
            groups.setdefault(json.dumps(rest, sort_keys=True, default=str), []).append(name)
    ordered = [sorted(names, key=lambda name: _radius(kinds[name]) or 0.0) for names in groups.values()]
    return [names for names in ordered if len({_radius(kinds[name]) for name in names}) > 1]


def _of_radii(
    rows: Sequence[Row], names: Sequence[str], kinds: Mapping[str, Mapping[str, Any]], left_out: tuple[str, ...]
) -> CurvePlot | None:
    radii = [_radius(kinds[name]) or 0.0 for name in names]
    lines = [_line(row, dict(zip(names, radii, strict=True))) for row in rows]
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return None
    knobs = kinds[names[0]]
    panel = CurvePanel("accuracy under attack", tuple(lines))
    return CurvePlot(f"{knobs.get('kind', names[0])} at {len(radii)} radii", _axis(knobs), (panel,), (0.0, *radii),
                     left_out=left_out)  # fmt: skip


def _line(row: Row, radii: Mapping[str, float]) -> CurveLine:
    columns = {name: TableColumn(f"robust_accuracy:{name}", name, "Evasion", "", "high") for name in radii}
    figures = [(radius, figure_of(row.cells, columns[name])) for name, radius in radii.items()]
    points = [point_of(0.0, figure_of(row.cells, _ACCURACY)), *(point_of(r, figure) for r, figure in figures)]
    return curve_line(row, points, _remark(row, *radii))


def _radius(knobs: Mapping[str, Any]) -> float | None:
    radius = knobs.get("radius")
    return float(radius) if isinstance(radius, (int, float)) and not isinstance(radius, bool) and radius > 0 else None


_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1"}


def _axis(knobs: Mapping[str, Any]) -> str:
    norm = str(knobs.get("norm", ""))
    if norm == "l0":
        return "changed features"
    return f"radius, {_NORMS.get(norm, norm)}, inputs in [0, 1]" if norm else "radius"
