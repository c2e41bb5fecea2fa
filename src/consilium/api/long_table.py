"""Every figure of a study in long form: one row a figure, with the choice on each axis beside it.

    arm   one column an axis   seed   infected_by   measure   value   low   high   n   chance

A measure is called as its column in ``table.csv`` where it has one (``accuracy``, ``worst_case``, ``mia_advantage``),
and ``MEASURE:ATTACK`` where it is of one attack (``robust_accuracy:pgd``; of a membership attack ``mia_auc:lira``).
A figure that is undefined has no value: the reason is in the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from consilium.core.finding import Measure
from consilium.report.analyse.columns import TableColumn, axis_columns, columns, measure_of
from consilium.report.analyse.leakage import strongest_attack
from consilium.report.load.records import CellRecord, FindingRecord, StudyRecord

__all__ = ["FIGURE", "long_columns", "long_rows"]

FIGURE = ("value", "low", "high", "n", "chance")
"""What a figure is made of."""
_BEFORE, _AFTER = ("arm",), ("seed", "infected_by", "measure", *FIGURE)


def long_columns(study: StudyRecord) -> tuple[str, ...]:
    """The names of the columns, in order."""
    return (*_BEFORE, *axis_columns([*study.axes], (*_BEFORE, *_AFTER)).values(), *_AFTER)


def long_rows(study: StudyRecord) -> Iterator[dict[str, object]]:
    """A row for each figure of each judged cell, in the order of the study."""
    axes, shown = axis_columns([*study.axes], (*_BEFORE, *_AFTER)), columns(study)
    for cell in study.evidence:
        head: dict[str, object] = {"arm": cell.arm}
        head |= {column: cell.choices.get(axis, "") for axis, column in axes.items()}
        head |= {"seed": cell.seed, "infected_by": cell.infected_by}
        for name, measure in _figures(study, shown, cell).items() if cell.judged else ():
            yield {**head, "measure": name, **{part: getattr(measure, part) for part in FIGURE}}


def _figures(study: StudyRecord, shown: Sequence[TableColumn], cell: CellRecord) -> Mapping[str, Measure]:
    """The cell's figures by name, those of the table first."""
    arm = study.arm_cells(cell.arm, cell.infected_by)
    named = {m.name: m for m in cell.utility}
    for column in shown:
        strongest = strongest_attack(arm, column.key) if column.chance is not None else ""
        measure = measure_of(cell, f"{column.key}:{strongest}" if strongest else column.key)
        named |= {} if measure is None else {column.key: measure}
    if cell.privacy.delta is not None:
        named["delta"] = Measure("delta", cell.privacy.delta)
    for finding in cell.attacks:
        named |= {_name(finding, m): m for m in finding.measures}
    return {**named, **{m.name: m for m in (*cell.mediators, *cell.cost) if m.name not in named}}


def _name(finding: FindingRecord, measure: Measure) -> str:
    if finding.kind == "worst-case" or measure.name == finding.name:
        return measure.name
    return f"{'mia_' if finding.aim == 'membership' else ''}{measure.name}:{finding.name}"
