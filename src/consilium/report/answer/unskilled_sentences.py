"""Which arms learned nothing, so that neither a cost nor a protection can be read from them."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.measure.utility import below_chance
from consilium.report.analyse.columns import TableColumn, score_column
from consilium.report.analyse.summary import Row, unskilled_row
from consilium.report.load.numbers import number
from consilium.report.load.records import StudyRecord

from .sentence import Sentence
from .wording import join_words

__all__ = ["unskilled_sentences"]

_NAMED = 4
"""Arms that are named one by one."""


def unskilled_sentences(study: StudyRecord, every: Sequence[Row]) -> tuple[Sentence, ...]:
    """One, where some clean arm is not above the no-skill level in the figure by which models are first read."""
    column, clean = score_column(study), [row for row in every if row.judged and row.infected_by == "none"]
    level = [row for row in clean if unskilled_row(study, row)]
    if column is None or not level:
        inverted = _inversion(study, clean)
        return (Sentence("chance", f"AUROC or accuracy of a model:{inverted}", warning=True),) if inverted else ()
    one = len(level) == 1
    text = (
        f"{_subject(level, len(clean))} not above chance ({_figures(level, column)}): {_skill(study, one)} "
        f"that the {column.label} shows, so neither a cost nor a protection can be read from "
        f"{'it' if one else 'them'}. {_advice(study)}{_inversion(study, clean)}"
    )
    return (Sentence("chance", text, warning=True),)


def _evaluated(study: StudyRecord) -> bool:
    """True where models were given, and nothing was trained."""
    return bool(study.evidence) and not any(cell.training for cell in study.evidence)


def _skill(study: StudyRecord, one: bool) -> str:
    if _evaluated(study):
        return f"{'it has' if one else 'they have'} no skill on these records"
    return f"{'it' if one else 'they'} learned nothing"


def _advice(study: StudyRecord) -> str:
    if _evaluated(study):
        return "Check that its classes, inputs and their scaling are those of these records."
    return "Train longer, or at another learning rate, first."


def _inversion(study: StudyRecord, rows: Sequence[Row]) -> str:
    """Said where a model ranks or answers worse than chance beyond its interval."""
    if not any(below_chance(cell.utility) for row in rows for cell in row.cells if cell.judged):
        return ""
    if _evaluated(study):
        return " It lies wholly below chance: the order of its classes may be inverted."
    return " It lies wholly below chance, worse than guessing: check that the labels of training and test agree."


def _subject(level: Sequence[Row], clean: int) -> str:
    if clean == 1:
        return "The model is"
    names = [f"{row.code} ({row.arm.name})" for row in level[:_NAMED]]
    names += [f"{len(level) - _NAMED} more"] if len(level) > _NAMED else []
    return f"{len(level)} of {clean} arms, {join_words(names)}, {'is' if len(level) == 1 else 'are'}"


def _figures(level: Sequence[Row], column: TableColumn) -> str:
    """The figures of the arms, from the lowest to the highest, and their chance level."""
    figures = [row.figures[column.key] for row in level]
    values = [number(figure.value, column.style) for figure in sorted(figures, key=lambda one: one.value or 0.0)]
    between = values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
    return f"{column.label} {between}, chance {number(figures[0].chance, column.style)}"
