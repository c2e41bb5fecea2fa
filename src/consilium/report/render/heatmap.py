"""Coloured tables: arms x attacks, and labels x sites.  The number is always written; colour is an aid only.

Bright means that the model holds, dark that the adversary gains: robust accuracy runs from 0 (dark) to 1, leakage from
the largest in the study (dark; at least 0.25) to 0.  Leakage is coloured only where its interval lies above chance:
what a coin may reach is no information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consilium.evidence.study import DataEvidence
from consilium.report.analyse.columns import TableColumn
from consilium.report.analyse.many_sites import MANY
from consilium.report.analyse.summary import Figure, Row, figure_of
from consilium.report.load.numbers import interval, number
from consilium.report.load.records import StudyRecord

from .colour import cividis, ink

__all__ = ["HeatCell", "HeatGroup", "Tile", "heat_groups", "partition_tiles"]

_MAIN = {"evasion": "robust_accuracy", "membership": "advantage"}
_LOOSE = ". A loose bound: the attack was not adapted to the defence"
_NAMES = {"robust_accuracy": "robust accuracy, at most", "advantage": "membership advantage"}


@dataclass(frozen=True)
class Tile:
    """A number on a colour; ``title`` explains it."""

    text: str
    background: str
    ink: str
    title: str


@dataclass(frozen=True)
class HeatCell:
    """What one attack found of one row; ``tile`` is None where there is nothing to colour."""

    figure: Figure
    tile: Tile


@dataclass(frozen=True)
class HeatGroup:
    """All attacks of one aim: ``cells[row][attack]``; ``legend`` runs from dark to bright as (number, colour)."""

    aim: str
    measure: str
    attacks: tuple[str, ...]
    cells: tuple[tuple[HeatCell, ...], ...]
    legend: tuple[tuple[str, str], ...]


def heat_groups(study: StudyRecord, rows: Sequence[Row]) -> tuple[HeatGroup, ...]:
    """One group per aim that some finding has, evasion first; every row of ``rows`` in every group."""
    aims = dict.fromkeys(f.aim for cell in study.evidence for f in cell.attacks)
    return tuple(_group(study, rows, aim) for aim in sorted(aims, key=lambda aim: (aim != "evasion", aim)))


def _group(study: StudyRecord, rows: Sequence[Row], aim: str) -> HeatGroup:
    name, attacks = _MAIN.get(aim) or _first_measure(study, aim), study.attacks(aim)
    good = aim == "evasion"
    columns_of_aim = [TableColumn(f"{name}:{a}", a, aim.capitalize(), "", "high" if good else "low") for a in attacks]
    figures = [[figure_of(row.cells, column) for column in columns_of_aim] for row in rows]
    top = 1.0 if good else max([0.25, *(f.value for line in figures for f in line if f.value is not None)])
    cells = [[HeatCell(f, _tile(f, top, good, a, row)) for f, a in zip(line, attacks, strict=True)]
             for line, row in zip(figures, rows, strict=True)]  # fmt: skip
    steps = [i / 4 for i in range(5)]
    legend = tuple((f"{top * (step if good else 1 - step):.2f}", cividis(step)) for step in steps)
    return HeatGroup(aim, _NAMES.get(name, name.replace("_", " ")), attacks, tuple(map(tuple, cells)), legend)


def _tile(figure: Figure, top: float, good: bool, attack: str, row: Row) -> Tile:
    name = f"{row.arm.name}, {row.infected_by}, {attack}"
    if figure.value is None:
        bound = "–" if figure.ceiling is None else f"≤ {number(figure.ceiling)}"
        return Tile(bound, "", "", f"{name}: {figure.reason}{_LOOSE if figure.upper else ''}")
    share = figure.value / top
    background = cividis(share if good else 1 - share)
    between = interval(figure.low, figure.high)
    text = f"{'≤ ' if figure.at_most else ''}{number(figure.value)}"
    title = f"{name}: {text}{f' ({between})' if between else ''}{_LOOSE if figure.upper else ''}"
    if good and row.collapsed:
        return Tile(text, "", "", f"{title}. Collapsed: not ranked")
    if not good and not _beyond_chance(figure):
        why = f"Not beyond its interval of chance ({number(figure.chance)}): no colour"
        if figure.high is not None and figure.chance is not None and figure.high < figure.chance:
            why += ". Wholly below chance: who inverts the guess is above it by as much"
        return Tile(text, "", "", f"{title}. {why}")
    return Tile(text, background, ink(background), title)


def _beyond_chance(figure: Figure) -> bool:
    """True where the whole interval is above chance, or chance is undefined."""
    return figure.chance is None or (figure.low is not None and figure.low > figure.chance)


def _first_measure(study: StudyRecord, aim: str) -> str:
    names = (m.name for cell in study.evidence for f in cell.aimed(aim) for m in f.measures)
    return next(names, "nothing measured")


def partition_tiles(data: DataEvidence) -> tuple[tuple[Tile, ...], ...]:
    """``label_counts`` as tiles, a row per label and a column per site; bright is many.  Many sites have none."""
    if len(data.sites) > MANY:
        return ()
    most = max((n for row in data.label_counts for n in row), default=0) or 1
    return tuple(tuple(_count(n, most) for n in row) for row in data.label_counts)


def _count(n: int, most: int) -> Tile:
    background = cividis(n / most)
    return Tile(str(n), background, ink(background), f"{n} training records")
