"""What each defence buys and costs: differences between arms that differ in that defence alone.

For a choice c of an axis, every arm with c is paired with the arm that has the first choice there (``none``) and is
otherwise the same, under the same seed and clean; the figure is the mean of the paired differences with its paired
interval (:mod:`.compare`), beside the smallest and the largest.  An infection is treated alike: an infected model
against its clean twin.  Beyond the interval, and with every pair on that side of 0, it is a gain or a loss; else it is
not measurable: so where one pair is 0.  Leakage is counted above chance: an advantage below 0 as 0; of one and the
same attack in both (:mod:`.leakage`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from consilium.core.catalogue import cards
from consilium.report.load.records import CellRecord, StudyRecord

from .columns import TableColumn, columns, is_bound, measure_of
from .compare import NOT_COMPARED, Gap, gap
from .leakage import compared_column
from .outcomes import Outcomes
from .summary import unskilled_pairs

__all__ = ["Change", "Effect", "changed", "effects", "less_noise", "readings", "unpaired"]

_SHOWN = (
    *("accuracy", "balanced_accuracy", "macro_auroc", "dice", "r2", "c_index"),
    *("worst_case", "mia_advantage", "bytes", "latency_ratio"),
)
_Pair = tuple[CellRecord, CellRecord]


@dataclass(frozen=True)
class Change:
    """Mean paired difference with its extremes over ``pairs`` and its interval.

    ``relative`` where it is a share of the plain value.
    """

    mean: float
    low: float
    high: float
    pairs: int
    relative: bool
    gap: Gap = NOT_COMPARED

    @property
    def mixed(self) -> bool:
        """True where pairs are on both sides of 0, so that the mean has no clear direction."""
        return self.low < 0 < self.high

    def way(self, column: TableColumn) -> str:
        """``gain`` or ``loss`` beyond the interval; ``mixed`` where a pair disagrees or is 0; ``equal``; ``open``.

        ``unknown`` where there is no interval at all: that is no sign of no effect.
        """
        if self.gap.reason:
            return "unknown"
        if self.mean == 0 and (self.gap.exact or self.low == self.high == 0):
            return "equal"
        if self.mixed:
            return "mixed"
        if self.gap.sign == 0:
            return "open"
        if self.low <= 0 <= self.high:  # a pair without any change: not every one is on that side
            return "mixed"
        return "gain" if (self.gap.sign > 0) == (column.better == "high") else "loss"


@dataclass(frozen=True)
class Effect:
    """One defence or infection; ``changes`` by column key, None where no pair has both figures.

    Of ``unskilled`` of all ``pairs`` neither model is above the no-skill level (:mod:`.summary`).
    """

    axis: str
    label: str
    changes: dict[str, Change | None]
    unskilled: int = 0
    pairs: int = 0

    @property
    def unreadable(self) -> bool:
        """True where that holds of every pair: the figures differ by nothing that was learned."""
        return bool(self.pairs) and self.unskilled == self.pairs


def changed(study: StudyRecord) -> tuple[TableColumn, ...]:
    """The columns in which effects are shown."""
    shown = [compared_column(study, c) for c in columns(study) if c.key in _SHOWN]
    evasion = [c for c in columns(study) if c.robustness]
    if len(evasion) == 1:  # one attack is its own worst case
        place = sum(c.group == "Utility" for c in shown)
        shown = [*shown[:place], evasion[0], *shown[place:]]
    return tuple(shown)


def effects(study: StudyRecord) -> tuple[Effect, ...]:
    """One effect per choice other than the first of every axis, then one per infection, where there are pairs."""
    shown, outcomes = changed(study), Outcomes()
    changes = [
        Effect(
            axis,
            label,
            {c.key: _change(pairs, c, outcomes) for c in shown},
            unskilled_pairs(study, pairs),
            len(pairs),
        )
        for axis, label, pairs in (*_choices(study), *_infections(study))
        if pairs
    ]
    return tuple(effect for effect in changes if any(effect.changes.values()))


def unpaired(study: StudyRecord) -> tuple[tuple[str, int], ...]:
    """Each infection with how many of its models cannot be set beside a clean twin, where there are such."""
    pairs = {label: len(twins) for _, label, twins in _infections(study)}
    planned = {label: sum(c.infected_by == label for c in study.evidence) for label in study.infections[1:]}
    return tuple((label, planned[label] - pairs[label]) for label in planned if planned[label] > pairs[label])


def less_noise(study: StudyRecord) -> tuple[str, ...]:
    """The infections under which some model has a claim whose noise is added by the sites: its twin has more."""
    labels = [
        cell.infected_by
        for cell in study.evidence
        if cell.judged and cell.infected_by != "none" and any(c.unit != "site" for c in cell.privacy.claims)
    ]
    return tuple(dict.fromkeys(labels))


def readings(study: StudyRecord, shown: Sequence[Effect]) -> tuple[tuple[str, str], ...]:
    """Each infection under which models answer better, with its entry's remark on that, where there is one."""
    by_key = {c.key: c for c in changed(study) if c.group in ("Utility", "Evasion")}
    better = [effect for effect in shown if effect.axis == "infected" and _helps(effect, by_key)]
    readings_by_label = ((effect.label, _reading(study, effect.label)) for effect in better)
    return tuple((label, text) for label, text in readings_by_label if text)


def _helps(effect: Effect, by_key: Mapping[str, TableColumn]) -> bool:
    known = ((by_key[key], change) for key, change in effect.changes.items() if change and key in by_key)
    return any(change.way(column) == "gain" for column, change in known)


def _reading(study: StudyRecord, label: str) -> str:
    corruptions = study.resolved.get("corruptions")
    knobs = corruptions.get(label) if isinstance(corruptions, Mapping) else None
    kind = knobs.get("kind") if isinstance(knobs, Mapping) else None
    return next((card.reading for card in cards("attack/poisoning") if card.kind == kind), "")


def _choices(study: StudyRecord) -> Iterator[tuple[str, str, list[_Pair]]]:
    clean = [cell for cell in study.evidence if cell.judged and cell.infected_by == "none"]
    plain = {_key(cell.choices, cell.seed): cell for cell in clean}
    for axis, labels in study.axes.items():
        for label in labels[1:]:
            cells = [cell for cell in clean if cell.choices.get(axis) == label]
            twins = ((cell, plain.get(_key({**cell.choices, axis: labels[0]}, cell.seed))) for cell in cells)
            yield axis, label, [(twin, cell) for cell, twin in twins if twin is not None]


def _infections(study: StudyRecord) -> Iterator[tuple[str, str, list[_Pair]]]:
    done = [cell for cell in study.evidence if cell.judged]
    clean = {(cell.arm, cell.seed): cell for cell in done if cell.infected_by == "none"}
    for label in study.infections[1:]:
        infected = [cell for cell in done if cell.infected_by == label]
        yield "infected", label, [(clean[c.arm, c.seed], c) for c in infected if (c.arm, c.seed) in clean]


def _key(choices: Mapping[str, str], seed: int) -> tuple[object, ...]:
    return (*sorted(choices.items()), seed)


def _change(pairs: Sequence[_Pair], column: TableColumn, outcomes: Outcomes) -> Change | None:
    relative = column.style in ("bytes", "ratio")
    if column.robustness:  # a constant model "withstands" everything, and a bound is no figure
        unfit = [cell.digest for pair in pairs for cell in pair if cell.collapsed or is_bound(cell, column.key)]
        pairs = [pair for pair in pairs if not {cell.digest for cell in pair} & set(unfit)]
    both = [(before, after, measure_of(before, column.key), measure_of(after, column.key)) for before, after in pairs]
    known = [
        (((1, after), (-1, before)), _step(b.value, a.value, column, relative))
        for before, after, b, a in both
        if b and a and b.value is not None and a.value is not None and not (relative and b.value <= 0)
    ]
    if not known:
        return None
    steps = [step for _, step in known]
    mean, apart = sum(steps) / len(steps), gap([signed for signed, _ in known], column, outcomes)
    if column.chance is not None and apart.low is not None and apart.high is not None:
        # The interval is that of the mean figures above chance; the mean over pairs may differ from it.
        apart = replace(apart, low=min(apart.low, mean), high=max(apart.high, mean))
    return Change(mean, min(steps), max(steps), len(steps), relative, apart)


def _step(before: float, after: float, column: TableColumn, relative: bool) -> float:
    return after / before - 1 if relative else column.ranked(after) - column.ranked(before)
