"""What each defence buys and costs: differences between arms that differ in that defence alone.

For a choice c of an axis, every arm with c is paired with the arm that has the first choice there (``none``) and is
otherwise the same, under the same seed and clean; the figure is the mean of the paired differences, beside the smallest
and the largest.  They are no interval: pairs share trainings.  An infection is treated alike: an infected model
against its clean twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .columns import Column, columns, is_bound, measure_of
from .evidence import CellRecord, StudyRecord

__all__ = ["Change", "Effect", "changed", "effects"]

_SHOWN = ("accuracy", "balanced_accuracy", "worst_case", "mia_advantage", "bytes", "latency_ratio")
_Pair = tuple[CellRecord, CellRecord]


@dataclass(frozen=True)
class Change:
    """Mean paired difference with its extremes over ``pairs``; ``relative`` where it is a share of the plain value."""

    mean: float
    low: float
    high: float
    pairs: int
    relative: bool

    @property
    def mixed(self) -> bool:
        """True where pairs lie on both sides of 0, so that the mean tells no direction."""
        return self.low < 0 < self.high


@dataclass(frozen=True)
class Effect:
    """One defence or infection; ``changes`` by column key, None where no pair has both figures."""

    axis: str
    label: str
    changes: dict[str, Change | None]


def changed(study: StudyRecord) -> tuple[Column, ...]:
    """The columns in which effects are shown."""
    shown = [c for c in columns(study) if c.key in _SHOWN]
    evasion = [c for c in columns(study) if c.robustness]
    if len(evasion) == 1:  # one attack is its own worst case
        place = sum(c.group == "Utility" for c in shown)
        shown = [*shown[:place], evasion[0], *shown[place:]]
    return tuple(shown)


def effects(study: StudyRecord) -> tuple[Effect, ...]:
    """One effect per choice other than the first of every axis, then one per infection, where there are pairs."""
    shown = changed(study)
    found = [
        Effect(axis, label, {c.key: _change(pairs, c) for c in shown})
        for axis, label, pairs in (*_choices(study), *_infections(study))
        if pairs
    ]
    return tuple(effect for effect in found if any(effect.changes.values()))


def _choices(study: StudyRecord) -> Iterator[tuple[str, str, list[_Pair]]]:
    clean = [cell for cell in study.cells if cell.judged and cell.infected_by == "none"]
    plain = {_key(cell.choices, cell.seed): cell for cell in clean}
    for axis, labels in study.axes.items():
        for label in labels[1:]:
            chosen = [cell for cell in clean if cell.choices.get(axis) == label]
            twins = ((cell, plain.get(_key({**cell.choices, axis: labels[0]}, cell.seed))) for cell in chosen)
            yield axis, label, [(twin, cell) for cell, twin in twins if twin is not None]


def _infections(study: StudyRecord) -> Iterator[tuple[str, str, list[_Pair]]]:
    done = [cell for cell in study.cells if cell.judged]
    clean = {(cell.arm, cell.seed): cell for cell in done if cell.infected_by == "none"}
    for label in study.infections[1:]:
        infected = [cell for cell in done if cell.infected_by == label]
        yield "infection", label, [(clean[c.arm, c.seed], c) for c in infected if (c.arm, c.seed) in clean]


def _key(choices: Mapping[str, str], seed: int) -> tuple[object, ...]:
    return (*sorted(choices.items()), seed)


def _change(pairs: Sequence[_Pair], column: Column) -> Change | None:
    relative = column.style in ("bytes", "ratio")
    if column.robustness:  # a constant model "withstands" everything, and a bound is no figure
        unfit = [cell.digest for pair in pairs for cell in pair if cell.collapsed or is_bound(cell, column.key)]
        pairs = [pair for pair in pairs if not {cell.digest for cell in pair} & set(unfit)]
    both = ((measure_of(before, column.key), measure_of(after, column.key)) for before, after in pairs)
    values = [(b.value, a.value) for b, a in both if b and a and b.value is not None and a.value is not None]
    steps = [(a / b - 1 if relative else a - b) for b, a in values if not relative or b > 0]
    return Change(sum(steps) / len(steps), min(steps), max(steps), len(steps), relative) if steps else None
