"""Which pairs of defences are predicted to conflict, and what was measured of each.

    predicted   one of the two needs the model to have a risk that the other, not earlier, mitigates: the phases are
                before, in and after training, and within one phase either may come first
    measured    the interaction: what both together change, less what each changes alone,
                f(both) - f(first) - f(second) + f(none), paired record by record, with its interval

An interaction on the bad side beyond its interval, in a figure of a risk that one of the two mitigates, is a conflict.
Two defences that do the same thing twice interact badly too.  A figure that means nothing in one of the four models
(collapsed, a loose bound, a red flag) is not used.

Source: Duddu et al. 2025, Combining Machine Learning Defenses without Conflicts, arXiv 2411.09776
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from consilium.evidence.study import DefenceEvidence
from consilium.measure.paired import Pair, paired
from consilium.report.analyse.columns import TableColumn, columns, is_bound, score_column
from consilium.report.analyse.compare import Signed, valued
from consilium.report.analyse.leakage import compared_column
from consilium.report.analyse.outcomes import Outcomes
from consilium.report.load.records import CellRecord, StudyRecord

__all__ = ["Combination", "Interaction", "agreement", "combinations_of_two", "interaction_columns"]

_PHASES = ("pre-training", "in-training", "post-training")
_SIGNS = (1, -1, -1, 1)
"""Of both, the first alone, the second alone and none."""
_Place = tuple[str, str]
_Cell = tuple[object, ...]


@dataclass(frozen=True)
class Interaction:
    """Its mean over ``groups`` of four models with its interval; None with the ``reason`` where there is none."""

    column: TableColumn
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    groups: int = 0
    reason: str = ""

    @property
    def way(self) -> str:
        """``loss`` or ``gain`` beyond its interval, ``open`` inside it, ``unknown`` without one."""
        if self.low is None or self.high is None:
            return "unknown"
        if self.low <= 0 <= self.high:
            return "open"
        return "gain" if (self.low > 0) == (self.column.better == "high") else "loss"


@dataclass(frozen=True)
class Combination:
    """Two choices of two axes; ``cause`` is why a conflict is predicted, empty where none is.

    ``judged`` are the interactions in figures of the risks that the two mitigate.
    """

    first: str
    second: str
    phases: tuple[str, str]
    cause: str
    interactions: tuple[Interaction, ...]
    judged: tuple[Interaction, ...]

    @property
    def measured(self) -> str:
        """``conflict``, ``none`` beyond an interval, or ``unknown`` where no figure of their risks has an interval."""
        ways = {one.way for one in self.judged} - {"unknown"}
        return "conflict" if "loss" in ways else "none" if ways else "unknown"

    @property
    def agrees(self) -> bool | None:
        """Whether what was predicted was measured; None where nothing could be."""
        return None if self.measured == "unknown" else bool(self.cause) == (self.measured == "conflict")


def combinations_of_two(study: StudyRecord) -> tuple[Combination, ...]:
    """Every pair of choices with defences on two axes, of which some model has both."""
    by_place: dict[_Place, list[DefenceEvidence]] = {}
    for one in study.defences:
        by_place.setdefault((one.axis, one.label), []).append(one)
    cells = {_key(cell.choices, cell.seed): cell for cell in study.evidence if cell.infected_by == "none"}
    pairs = ((a, b) for a, b in combinations(by_place, 2) if a[0] != b[0] and _together(study, a, b))
    outcomes, shown = Outcomes(), interaction_columns(study)
    return tuple(_combination(a, b, by_place, _groups(study, cells, a, b), shown, outcomes) for a, b in pairs)


def agreement(every: Sequence[Combination]) -> tuple[int, int, int]:
    """Of how many combinations prediction and measurement agree, of how many judged, and how many cannot be judged."""
    judged = [one.agrees for one in every if one.agrees is not None]
    return sum(judged), len(judged), len(every) - len(judged)


def interaction_columns(study: StudyRecord) -> tuple[TableColumn, ...]:
    """The score of the task, the worst case or the only attack, and the membership advantage, where there are such."""
    known = {column.key: column for column in columns(study)}
    robust = [c for c in known.values() if c.robustness and not c.proven]
    strongest = known.get("worst_case") or (robust[0] if len(robust) == 1 else None)
    leak = known.get("mia_advantage")
    shown = (score_column(study), strongest, leak and compared_column(study, leak))
    return tuple(column for column in shown if column is not None)


def _combination(
    a: _Place, b: _Place, by_place: dict[_Place, list[DefenceEvidence]],
    groups: Sequence[Signed], shown: Sequence[TableColumn], outcomes: Outcomes,
) -> Combination:  # fmt: skip
    pairs = [(one, other) for one in by_place[a] for other in by_place[b]]
    cause = next((text for one, other in pairs if (text := _cause(one, other))), "")
    risks = {risk for place in (a, b) for one in by_place[place] for risk in one.mitigates}
    results = tuple(_interaction(groups, column, outcomes) for column in shown)
    phases = (by_place[a][0].phase, by_place[b][0].phase)
    judged = tuple(one for one in results if one.column.group.lower() in risks)
    return Combination(a[1], b[1], phases, cause, results, judged)


def _cause(one: DefenceEvidence, other: DefenceEvidence) -> str:
    """The risk that the earlier needs and the later mitigates, in words; within one phase either may come first."""
    for early, late in ((one, other), (other, one)):
        shared = [risk for risk in early.uses if risk in late.mitigates]
        if shared and _rank(early) <= _rank(late):
            return f"{early.label} uses the risk of {shared[0]}, which {late.label} mitigates"
    return ""


def _rank(one: DefenceEvidence) -> int:
    return _PHASES.index(one.phase) if one.phase in _PHASES else 1


def _together(study: StudyRecord, a: _Place, b: _Place) -> bool:
    return any(all(cell.choices.get(axis) == label for axis, label in (a, b)) for cell in study.evidence)


def _groups(study: StudyRecord, cells: Mapping[_Cell, CellRecord], a: _Place, b: _Place) -> list[Signed]:
    """Both, each alone and none, everything else the same: where all four were judged."""
    bare_a, bare_b = ({axis: study.axes[axis][0]} for axis, _ in (a, b))
    both = [cell for cell in cells.values() if all(cell.choices.get(axis) == label for axis, label in (a, b))]
    groups = [
        [cells.get(_key({**cell.choices, **without}, cell.seed)) for without in ({}, bare_b, bare_a, bare_a | bare_b)]
        for cell in both
    ]
    whole = ([cell for cell in group if cell is not None and cell.judged] for group in groups)
    return [tuple(zip(_SIGNS, group, strict=True)) for group in whole if len(group) == len(_SIGNS)]


def _key(choices: Mapping[str, str], seed: int) -> _Cell:
    return (*sorted(choices.items()), seed)


def _interaction(groups: Sequence[Signed], column: TableColumn, outcomes: Outcomes) -> Interaction:
    fair = [group for group in groups if not any(_unfit(cell, column) for _, cell in group)]
    if not fair:
        reason = "of one of the four models it means nothing, or there is none" if groups else "a model is missing"
        return Interaction(column, reason=reason)
    results = [outcomes.pair(group, column.key) for group in fair]
    pairs = [result for result in results if isinstance(result, Pair)]
    if len(pairs) < len(results):
        return Interaction(column, reason=next(reason for reason in results if isinstance(reason, str)))
    return Interaction(column, *paired(pairs), groups=len(pairs))


def _unfit(cell: CellRecord, column: TableColumn) -> bool:
    if valued(cell, column.key) is None:
        return True
    return column.robustness and bool(cell.collapsed or is_bound(cell, column.key) or cell.red_flags)
