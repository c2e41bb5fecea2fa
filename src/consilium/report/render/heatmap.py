"""Coloured tables: arms x attacks, and labels x sites.  The number is always written; colour is an aid only.

A colour says that there is something beyond an interval: of accuracy under attack a paired difference from the first
arm trained by honest sites, blue where the row withstands more and orange where less; of leakage (orange) an interval
that lies above chance, or wholly below it, where the inverted guess is above chance by as much.  What an interval
holds is no information and has no colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consilium.core.count_words import count_words
from consilium.evidence.study import DataEvidence
from consilium.report.analyse.columns import TableColumn
from consilium.report.analyse.compare import Gap, gap, shared
from consilium.report.analyse.many_sites import MANY
from consilium.report.analyse.outcomes import Outcomes
from consilium.report.analyse.summary import Figure, Row, figure_of, flagged_at
from consilium.report.load.numbers import interval, number
from consilium.report.load.records import StudyRecord

from .colour import cividis, ink, leaning

__all__ = ["HeatCell", "HeatGroup", "Tile", "heat_groups", "partition_tiles"]

_MAIN = {"evasion": "robust_accuracy", "membership": "advantage"}
_LEAST = 0.25
"""What has full colour, at the least."""
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
    """What one attack found of one row; ``flags`` are the red ones that speak against it."""

    figure: Figure
    tile: Tile
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeatGroup:
    """All attacks of one aim: ``cells[row][attack]``; ``legend`` holds numbers with their colours, and ``meaning``
    what the colours are of.
    """

    aim: str
    measure: str
    attacks: tuple[str, ...]
    cells: tuple[tuple[HeatCell, ...], ...]
    legend: tuple[tuple[str, str], ...]
    meaning: str


def heat_groups(study: StudyRecord, rows: Sequence[Row]) -> tuple[HeatGroup, ...]:
    """One group per aim that some finding has, evasion first; every row of ``rows`` in every group."""
    aims, outcomes = dict.fromkeys(f.aim for cell in study.evidence for f in cell.attacks), Outcomes()
    return tuple(_group(study, rows, aim, outcomes) for aim in sorted(aims, key=lambda aim: (aim != "evasion", aim)))


def _group(study: StudyRecord, rows: Sequence[Row], aim: str, outcomes: Outcomes) -> HeatGroup:
    name, attacks = _MAIN.get(aim) or _first_measure(study, aim), study.attacks(aim)
    good = aim == "evasion"
    columns_of_aim = [TableColumn(f"{name}:{a}", a, aim.capitalize(), "", "high" if good else "low") for a in attacks]
    figures = [[figure_of(row.cells, column) for column in columns_of_aim] for row in rows]
    either = aim == "membership"
    first = next((row for row in rows if row.judged and row.infected_by == "none"), None)
    compare = _Compare(first, outcomes)
    top = (
        _LEAST
        if good
        else max(
            [_LEAST, *(abs(f.value) if either else f.value for line in figures for f in line if f.value is not None)]
        )
    )
    cells = [[HeatCell(f, compare.tile(f, c, row) if good else _leak_tile(f, top, c.label, row, either),
                       flagged_at(row, c))
              for f, c in zip(line, columns_of_aim, strict=True)]
             for line, row in zip(figures, rows, strict=True)]  # fmt: skip
    steps = (-1.0, -0.5, 0.5, 1.0) if good else (-0.25, -0.5, -1.0)
    legend = tuple((f"{abs(top * step):.2f}{_side(step) if good else ''}", leaning(step)) for step in steps)
    measure = _NAMES.get(name, name.replace("_", " "))
    return HeatGroup(aim, measure, attacks, tuple(map(tuple, cells)), legend, _meaning(good, first, either))


def _side(step: float) -> str:
    return " more" if step > 0 else " less"


def _meaning(good: bool, first: Row | None, either: bool) -> str:
    if not good:
        below = ", or below it: a signal once inverted" if either else ""
        return f"orange: the whole interval above chance{below}"
    return f"blue and orange: withstands more or less than {first.code} beyond a paired interval" if first else ""


@dataclass(frozen=True)
class _Compare:
    """Colours accuracy under attack by its paired difference from the row ``first``."""

    first: Row | None
    outcomes: Outcomes

    def tile(self, figure: Figure, column: TableColumn, row: Row) -> Tile:
        """Bare where the row is ``first``, collapsed or a loose bound, or not measurably different."""
        if figure.value is None:
            return _absent(figure, column.label, row)
        text, title = _written(figure, column.label, row)
        if row.collapsed:
            return Tile(text, "", "", f"{title}. Collapsed: not ranked")
        if self.first is None or row is self.first or figure.upper:
            return Tile(text, "", "", title)
        by = gap(shared(row.cells, self.first.cells, column.key), column, self.outcomes)
        title = f"{title}. Against {self.first.code}: {_difference(by)}"
        if by.sign == 0 or self.first.collapsed or by.low is None or by.high is None:
            return Tile(text, "", "", title)
        background = leaning((by.low + by.high) / 2 / _LEAST)
        return Tile(text, background, ink(background), title)


def _difference(by: Gap) -> str:
    if by.low is None:
        return f"undetermined: {by.reason}"
    within = "" if by.sign else ", not measurable: no colour"
    return f"{interval(by.low, by.high, 'difference')}{within}"


def _leak_tile(figure: Figure, top: float, attack: str, row: Row, either: bool) -> Tile:
    """Coloured above chance; with ``either`` below it too, by the same distance."""
    if figure.value is None:
        return _absent(figure, attack, row)
    text, title = _written(figure, attack, row)
    if not _beyond_chance(figure):
        if either and figure.high is not None and figure.chance is not None and figure.high < figure.chance:
            background = leaning(((figure.value or 0.0) - figure.chance) / top)
            why = "Wholly below chance: who inverts the guess is above it by as much"
            return Tile(text, background, ink(background), f"{title}. {why}")
        return Tile(text, "", "", f"{title}. Not beyond its interval of chance ({number(figure.chance)}): no colour")
    background = leaning(-figure.value / top)
    return Tile(text, background, ink(background), title)


def _absent(figure: Figure, attack: str, row: Row) -> Tile:
    bound = "–" if figure.ceiling is None else f"≤ {number(figure.ceiling)}"
    name = f"{row.arm.name}, {row.infected_by}, {attack}"
    return Tile(bound, "", "", f"{name}: {figure.reason}{_LOOSE if figure.upper else ''}")


def _written(figure: Figure, attack: str, row: Row) -> tuple[str, str]:
    """A figure as it stands in its tile, and in the tile's title."""
    between = interval(figure.low, figure.high)
    text = f"{'≤ ' if figure.at_most else ''}{number(figure.value)}"
    name = f"{row.arm.name}, {row.infected_by}, {attack}"
    return text, f"{name}: {text}{f' ({between})' if between else ''}{_LOOSE if figure.upper else ''}"


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
    return Tile(str(n), background, ink(background), count_words(n, "training record"))
