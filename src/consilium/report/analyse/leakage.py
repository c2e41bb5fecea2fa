"""Which membership attack a figure of leakage is of, where a study has several: never the one that stands first.

    an arm's own figure        the attack that tells most of it, by name: what an adversary with these attacks gets
    a comparison of arms       one attack for all of them, by name: the one that tells most on average over clean arms

The first is the largest of several figures, so it errs upwards; two such figures may be of two attacks, and their
difference is none of either.  The second is the same attack on the same records on both sides.  An attack that has a
figure in more models goes before one that failed in some: else arms would be compared where it happened to end well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from consilium.report.load.records import CellRecord, StudyRecord

from .columns import TableColumn, measure_of

__all__ = ["attack_columns", "compared_column", "strongest_attack"]


def strongest_attack(cells: Sequence[CellRecord], key: str) -> str:
    """The name of the attack with the largest mean figure in column ``key`` over judged ``cells``; empty for none."""
    names = _names(cells)
    values = {name: _values(cells, f"{key}:{name}") for name in names}
    return max(sorted(names), key=lambda name: (len(values[name]), _mean(values[name])), default="")


def attack_columns(study: StudyRecord, column: TableColumn) -> tuple[TableColumn, ...]:
    """A column for each membership attack that has a figure like ``column``'s, where there are several; else none."""
    named = [_under(column, name) for name in _names(study.evidence)]
    some = [c for c in named if any(measure_of(cell, c.key) for cell in study.evidence if cell.judged)]
    return tuple(some) if len(some) > 1 else ()


def compared_column(study: StudyRecord, column: TableColumn) -> TableColumn:
    """``column`` under the one attack by which arms are compared; as it is where there are not several."""
    if column.chance is None or len(attack_columns(study, column)) < 2:
        return column
    clean = [cell for cell in study.evidence if cell.infected_by == "none"]
    name = strongest_attack(clean, column.key) or strongest_attack(study.evidence, column.key)
    return _under(column, name)


def _under(column: TableColumn, name: str) -> TableColumn:
    meaning = f"{column.meaning} Here of “{name}” alone, in every arm."
    return replace(column, key=f"{column.key}:{name}", label=f"{column.label}: {name}", meaning=meaning)


def _names(cells: Sequence[CellRecord]) -> list[str]:
    """Of those attacks that ask the model; the others check the records."""
    return list(dict.fromkeys(f.name for cell in cells for f in cell.aimed("membership") if f.sees_model))


def _values(cells: Sequence[CellRecord], key: str) -> list[float]:
    measures = [measure_of(cell, key) for cell in cells if cell.judged]
    return [measure.value for measure in measures if measure is not None and measure.value is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("-inf")
