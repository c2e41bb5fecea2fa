"""Arms over seeds: one row per arm and infection, one figure per column.

With several seeds a figure is the mean over them with a Student-t interval of that mean; with one seed it is the
measure itself with its own interval (which covers the test records, not the randomness of training), and is marked.
Epsilon is never averaged: each released model has its own, and the largest is shown.

A model that is not above the no-skill level has nothing to lose by a defence and remembers no record: nothing is read
from two such.  Each is judged by its own interval: that of a mean over few seeds may hold the chance level although no
model is near it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from consilium.core.count_words import count_words
from consilium.core.finding import Measure
from consilium.evidence.study import ArmEvidence
from consilium.measure.intervals import across_seeds
from consilium.report.load.records import CellRecord, StudyRecord

from .columns import TableColumn, columns, is_bound, measure_of, score_column
from .leakage import attack_columns, strongest_attack

__all__ = [
    "Figure",
    "Row",
    "code_of",
    "figure_of",
    "flagged_at",
    "inverted",
    "majority_rate",
    "rows",
    "unskilled",
    "unskilled_pairs",
    "unskilled_row",
]


@dataclass(frozen=True)
class Figure:
    """One number of the matrix: ``n`` records behind each of ``seeds`` values; ``how`` names its interval.

    ``at_most`` marks a figure of attacks that are not the strongest there are (LAWS 26): the interval is that of what
    these attacks did not break, and the robust accuracy may be below it.  ``upper`` marks one behind which an attack
    was not even adapted to the defence (LAWS 20), so it has no interval; where such an attack has no figure at all,
    ``ceiling`` is the clean accuracy: no robust accuracy is above it.  ``attack`` names the membership attack behind
    the figure, where it is the largest of ``among`` attacks; ``unit_count`` the patients that the n records are of, 0
    where each is its own.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    n: int = 0
    seeds: int = 0
    how: str = ""
    reason: str = ""
    upper: bool = False
    ceiling: float | None = None
    at_most: bool = False
    attack: str = ""
    among: int = 0
    unit_count: int = 0


@dataclass(frozen=True)
class Row:
    """One arm under one infection, over all its seeds; ``code`` is its short name in plots."""

    arm: ArmEvidence
    code: str
    infected_by: str
    cells: tuple[CellRecord, ...]
    figures: Mapping[str, Figure]

    @property
    def collapsed(self) -> int:
        """In how many seeds the model answers one class nearly always (LAWS 19)."""
        return sum(cell.collapsed for cell in self.cells)

    @property
    def judged(self) -> bool:
        """True where at least one model was judged."""
        return any(cell.judged for cell in self.cells)

    @property
    def red_flags(self) -> tuple[str, ...]:
        """The red flags of its models, each once."""
        return tuple(dict.fromkeys(flag for cell in self.cells for flag in cell.red_flags))

    @property
    def status(self) -> str:
        """In a word or three: ok, refused, or how many of its cells are not there."""
        if self.arm.refusal is not None or self.arm.status == "refused":
            return "refused"
        failures = [cell for cell in self.cells if not cell.ok]
        if not self.cells:
            return "missing"
        return f"{len(failures)} of {len(self.cells)} {failures[0].status}" if failures else "ok"


def rows(study: StudyRecord) -> tuple[Row, ...]:
    """Every arm, clean first and then under each infection."""
    shown = columns(study)
    return tuple(
        _row(study, arm, code_of(i), infected_by, shown)
        for i, arm in enumerate(study.arms)
        for infected_by in study.infections
        if infected_by == "none" or study.arm_cells(arm.name, infected_by)
    )


def code_of(index: int) -> str:
    """A, B, ... Z, AA, AB, ...: short enough to stand inside a mark."""
    letter = chr(ord("A") + index % 26)
    return letter if index < 26 else code_of(index // 26 - 1) + letter


def majority_rate(study: StudyRecord) -> float | None:
    """What always answering the commonest class scores on the test records, on average over seeds."""
    every = [m.value for c in study.evidence for m in c.utility if m.name == "majority_rate" and m.value is not None]
    return sum(every) / len(every) if every else None


def _row(study: StudyRecord, arm: ArmEvidence, code: str, infected_by: str, shown: Sequence[TableColumn]) -> Row:
    cells = study.arm_cells(arm.name, infected_by)
    return Row(arm, code, infected_by, cells, {c.key: _strongest(study, cells, c) for c in shown})


def _strongest(study: StudyRecord, cells: Sequence[CellRecord], column: TableColumn) -> Figure:
    """Of several membership attacks, the figure of the one that tells most of this arm, the same in every seed."""
    among = len(attack_columns(study, column)) if column.chance is not None else 0
    name = strongest_attack(cells, column.key) if among else ""
    if not name:
        return figure_of(cells, column)
    return replace(figure_of(cells, replace(column, key=f"{column.key}:{name}")), attack=name, among=among)


def figure_of(cells: Sequence[CellRecord], column: TableColumn) -> Figure:
    """The figure in ``column`` for these cells of one arm and infection, a seed each."""
    done = [cell for cell in cells if cell.judged]
    measures = [measure for measure in (measure_of(cell, column.key) for cell in done) if measure is not None]
    valued = [measure for measure in measures if measure.value is not None]
    upper = column.robustness and any(is_bound(cell, column.key) for cell in done)
    if column.needs_all and valued and len(valued) < len(done):
        why = next((m.reason for m in measures if m.value is None), "not measured")
        return Figure(None, reason=f"in {len(done) - len(valued)} of {count_words(len(done), 'seed')} {why}")
    if not valued:
        reason = measures[0].reason if measures else "no model of this arm was judged" if not done else "not measured"
        return Figure(None, reason=reason, upper=upper and bool(measures), ceiling=_ceiling(done) if upper else None)
    if column.style in ("epsilon", "audited"):
        return Figure(max(_values(valued)), seeds=len(valued), how="largest over seeds")
    return replace(_mean(valued, column, upper), at_most=column.robustness)


def flagged_at(row: Row, column: TableColumn) -> tuple[str, ...]:
    """The red flags that speak against the figure of ``row`` in ``column``: what is proven needs no attack."""
    return row.red_flags if column.robustness and not column.proven else ()


def inverted(figure: Figure, column: TableColumn) -> bool:
    """True where the whole interval is below chance: the inverted guess is above it by as much."""
    return column.chance is not None and figure.high is not None and figure.high < column.chance


def _mean(measures: Sequence[Measure], column: TableColumn, upper: bool) -> Figure:
    first, values = measures[0], _values(measures)
    chances = [measure.chance for measure in measures if measure.chance is not None]
    chance = sum(chances) / len(chances) if chances else None
    mean, low, high = across_seeds(values)
    if len(values) == 1:
        low, high = first.low, first.high
        how = "own interval of the only seed" if low is not None else "one seed, no interval"
        how += ", by patient" if first.unit_count and low is not None else ""
    elif max(values) == min(values):
        low, high, how = None, None, "the same in every seed"
    else:
        how = "95 % over seeds (Student t)"
    if upper:
        low, high, how = None, None, "loose bound"
    if column.style == "share" and low is not None and high is not None:  # cutting at the range loses no coverage
        low, high = max(low, -1.0 if "advantage" in column.key else 0.0), min(high, 1.0)
    n, reason = min(measure.n for measure in measures), first.reason
    units = min(measure.unit_count for measure in measures)
    return Figure(mean, low, high, chance, n, len(values), how, reason, upper, unit_count=units)


def _ceiling(cells: Sequence[CellRecord]) -> float | None:
    values = _values([m for m in (measure_of(cell, "accuracy") for cell in cells) if m is not None])
    return sum(values) / len(values) if values else None


def _values(measures: Sequence[Measure]) -> list[float]:
    return [measure.value for measure in measures if measure.value is not None]


def unskilled(cell: CellRecord, column: TableColumn | None) -> bool:
    """True where the figure of ``cell`` in ``column`` is not above its chance level beyond its own interval."""
    measure = measure_of(cell, column.key) if column is not None and cell.judged else None
    if column is None or column.better != "high" or measure is None or measure.value is None or measure.chance is None:
        return False
    return (measure.value if measure.low is None else measure.low) <= measure.chance


def unskilled_row(study: StudyRecord, row: Row) -> bool:
    """True where every judged model of the row is so in the figure by which models are first read."""
    column, done = score_column(study), [cell for cell in row.cells if cell.judged]
    return bool(done) and all(unskilled(cell, column) for cell in done)


def unskilled_pairs(study: StudyRecord, pairs: Sequence[tuple[CellRecord, CellRecord]]) -> int:
    """Of how many pairs both models are so."""
    column = score_column(study)
    return sum(all(unskilled(cell, column) for cell in pair) for pair in pairs)
