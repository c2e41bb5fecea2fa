"""What each choice and each infection costs and brings, in a sentence each; many choices are counted instead."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.core.count_words import count_words
from consilium.report.analyse.columns import TableColumn, measure_of
from consilium.report.analyse.effects import Change, Effect, changed, less_noise
from consilium.report.load.numbers import number
from consilium.report.load.records import CellRecord, StudyRecord

from .sentence import Sentence
from .wording import amount, change_words, join_words, name_in_words

__all__ = ["choice_sentences", "infection_sentences"]

_MOST = 4
"""Choices that get a sentence each."""
_LEFT_OUT = ("balanced_accuracy",)
"""In the effects table, and not in the sentences: it says nearly what accuracy does."""
_VERBS = {"gain": "improves", "loss": "worsens"}


def choice_sentences(study: StudyRecord, shown: Sequence[Effect]) -> tuple[Sentence, ...]:
    """One for each effect of a choice; where there are more than four, one for each figure that counts them."""
    choices = [effect for effect in shown if effect.axis != "infected"]
    if len(choices) <= _MOST:
        return tuple(Sentence(one.axis, _sentence(study, one, f"{one.label}{_epsilon(study, one)}")) for one in choices)
    counts = [_counts(column, choices) for column in _told(study) if column.style == "share"]
    return tuple(Sentence("choices", text) for text in counts if text)


def infection_sentences(study: StudyRecord, shown: Sequence[Effect]) -> tuple[Sentence, ...]:
    """One for each infection, against the clean twins."""
    quieter = less_noise(study)
    return tuple(
        Sentence("infected", _sentence(study, effect, _infection(study, effect.label)) + _why(effect, quieter, study))
        for effect in shown
        if effect.axis == "infected"
    )


def _sentence(study: StudyRecord, effect: Effect, subject: str) -> str:
    parts = [(column, change) for column, change in _parts(study, effect) if change is not None]
    pairs = max((change.pairs for _, change in parts), default=0)
    if effect.unreadable:
        return f"{subject} {_unreadable(parts)}; {count_words(pairs, 'pair')}."
    return f"{subject} {change_words(parts)}; {count_words(pairs, 'pair')}{_records(study, parts)}{_unskilled(effect)}."


def _unreadable(parts: Sequence[tuple[TableColumn, Change]]) -> str:
    """What does not depend on skill: the size.  Of the rest nothing is said."""
    exact = [(column, change) for column, change in parts if change.relative and change.gap.exact]
    size = change_words(exact)
    what = (
        f"{size}; its other effects cannot be read" if size.startswith("makes") else "has effects that cannot be read"
    )
    return f"{what}, as neither model of any pair is above chance"


def _unskilled(effect: Effect) -> str:
    """How many of the pairs dilute the mean, being of two models that learned nothing."""
    if not effect.unskilled:
        return ""
    return f"; in {effect.unskilled} of {effect.pairs} pairs neither model is above chance, so these show no effect"


def _parts(study: StudyRecord, effect: Effect) -> list[tuple[TableColumn, Change | None]]:
    return [(column, effect.changes.get(column.key)) for column in _told(study)]


def _told(study: StudyRecord) -> list[TableColumn]:
    return [column for column in changed(study) if column.key not in _LEFT_OUT]


def _records(study: StudyRecord, parts: Sequence[tuple[TableColumn, Change]]) -> str:
    """On how many records every model was judged, at the least; each figure with another number has its own."""
    known = {name_in_words(column): _fewest(study, column) for column, change in parts if not change.relative}
    counts = {name: count for name, count in known.items() if count}
    if not counts:
        return ""
    first = next(iter(counts.values()))
    others = [f"{count:,} for {name}" for name, count in counts.items() if count != first]
    return f", n = {first:,}{f' ({join_words(others)})' if others else ''}"


def _fewest(study: StudyRecord, column: TableColumn) -> int:
    measures = [measure_of(cell, column.key) for cell in study.evidence if cell.judged]
    return min((measure.n for measure in measures if measure is not None and measure.n), default=0)


def _epsilon(study: StudyRecord, effect: Effect) -> str:
    """The epsilon that only the models with this choice claim."""
    clean = [cell for cell in study.evidence if cell.judged and cell.infected_by == "none"]
    cells = [cell for cell in clean if cell.choices.get(effect.axis) == effect.label]
    plain = [cell for cell in clean if cell.choices.get(effect.axis) == study.axes[effect.axis][0]]
    values = [_claimed(cell) for cell in cells]
    if not values or None in values or any(_claimed(cell) is not None for cell in plain):
        return ""
    units = {cell.privacy.unit for cell in cells}
    unit = f" per {units.pop()}" if len(units) == 1 and "" not in units else ""
    return f" at ε = {number(max(value for value in values if value is not None), 'epsilon')}{unit}"


def _claimed(cell: CellRecord) -> float | None:
    return cell.privacy.epsilon


def _infection(study: StudyRecord, label: str) -> str:
    counts = {len(cell.corrupted) for cell in study.evidence if cell.infected_by == label and cell.corrupted}
    sites = len(study.data.sites)
    return f"{label} at {counts.pop()} of {count_words(sites, 'site')}" if len(counts) == 1 and sites else label


def _why(effect: Effect, quieter: Sequence[str], study: StudyRecord) -> str:
    """A model with noise may look better infected: the corrupted site adds none."""
    parts = [(column, change) for column, change in _parts(study, effect) if column.group == "Utility"]
    better = any(change is not None and change.mean > 0 for _, change in parts)
    if not better or effect.label not in quieter:
        return ""
    return " Arms with noise may look better infected: the corrupted site obeys no defence, so it adds none."


def _counts(column: TableColumn, choices: Sequence[Effect]) -> str:
    """How many choices change the figure, which way, and by how much at the least and at the most."""
    changes = [(effect.label, effect.changes.get(column.key)) for effect in choices if not effect.unreadable]
    unreadable = len(choices) - len(changes)
    known = [(label, change) for label, change in changes if change is not None]
    parts = []
    for way, verb in _VERBS.items():
        some = sorted((c for c in known if c[1].way(column) == way), key=lambda pair: abs(pair[1].mean))
        if some:
            ends = amount(some[-1][1]) if len(some) == 1 else f"{amount(some[0][1])} up to {amount(some[-1][1])}"
            parts.append(
                f"{len(some)} {verb if len(some) == 1 else verb[:-1]} it, by {ends}: {join_words(_labels(some))}"
            )
    rest = len(known) - sum(change.way(column) in _VERBS for _, change in known)
    parts += [f"{rest} {'has' if rest == 1 else 'have'} no measurable effect or a mixed one"] if rest else []
    parts += [f"{unreadable} cannot be read, as neither model of any pair is above chance"] if unreadable else []
    total = count_words(len(known) + unreadable, "choice")
    return f"Of {total}, on {name_in_words(column)}: {'; '.join(parts)}." if parts else ""


def _labels(some: Sequence[tuple[str, Change]]) -> list[str]:
    names = [label for label, _ in some]
    return names if len(names) <= _MOST else [*names[:_MOST], f"{len(names) - _MOST} more"]
