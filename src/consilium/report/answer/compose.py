"""The answer to a study's question in a few sentences, each with its figures, intervals and counts.

In order: what was to be accepted; which arms learned nothing; how good the model is without a defence; what each
choice costs and brings; whether a membership attack found a signal; what an infection does; what an audit found; what
is missing.  Every sentence obeys the rules of evidence: nothing is better inside a paired interval, accuracy under
attack is at most what is written (LAWS 26), an attack that found nothing proves nothing, and a figure that is
undefined is said to be.
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.core.count_words import count_words
from consilium.report.analyse.acceptance import acceptance_view
from consilium.report.analyse.columns import columns, score_column
from consilium.report.analyse.effects import Effect
from consilium.report.analyse.summary import Row
from consilium.report.load.records import StudyRecord

from .effect_sentences import choice_sentences, infection_sentences
from .flag_sentences import flag_sentences
from .leak_sentences import audit_sentences, membership_sentences
from .sentence import Sentence
from .unskilled_sentences import unskilled_sentences
from .wording import figure_words, join_words

__all__ = ["answer"]

_NAMED = 4
"""Arms that are named one by one."""


def answer(study: StudyRecord, every: Sequence[Row], shown: Sequence[Effect]) -> tuple[Sentence, ...]:
    """What ``study`` found, from its ``rows`` and ``effects``; never empty."""
    if not any(cell.judged for cell in study.evidence):
        return (
            Sentence("no answer", "No model was judged, so nothing can be said yet.", warning=True),
            *_missing(study, every),
        )
    sentences = (
        *_accepted(study),
        *unskilled_sentences(study, every),
        *flag_sentences(every),
        *_level(study, every),
        *choice_sentences(study, shown),
        *membership_sentences(study, every),
        *infection_sentences(study, shown),
        *audit_sentences(study),
        *_missing(study, every),
    )
    return sentences or (Sentence("no answer", "No figure of this study is defined."),)


def _accepted(study: StudyRecord) -> list[Sentence]:
    view = acceptance_view(study)
    if view is None or not view.lines:
        return []
    verdicts = dict.fromkeys(line.verdict for line in view.lines)
    counts = [f"{sum(line.verdict == verdict for line in view.lines)} {verdict}" for verdict in verdicts]
    return [Sentence("accept", f"Of {count_words(len(view.lines), 'verdict')}: {join_words(counts)}.", warning=True)]


def _level(study: StudyRecord, every: Sequence[Row]) -> list[Sentence]:
    """How good the first judged arm is: the one without defences, where it was judged."""
    row = next((row for row in every if row.infected_by == "none" and row.judged), None)
    if row is None:
        return []
    bare = study.axes and all(choice == "none" for choice in row.arm.choices.values())
    who = "Without a defence the model" if bare else f"The arm {row.arm.name}" if study.axes else "The model"
    parts = [part for part in (_score(study, row), _accuracy(row), _attacked(study, row)) if part]
    count = len([cell for cell in row.cells if cell.judged])
    seeds = f" Means over {count} seeds." if count > 1 else ""
    text = f"{who} {join_words(parts) or 'has no figure'}.{seeds}"
    if row.collapsed:
        text += " It answers nearly all records alike (collapsed), so what it withstands means nothing."
    return [Sentence("baseline", text)]


def _score(study: StudyRecord, row: Row) -> str:
    column = score_column(study)
    if column is None or column.key == "accuracy":
        return ""
    figure = row.figures[column.key]
    if figure.value is None:
        return f"has no {column.label} ({figure.reason})"
    return f"reaches {column.label} {figure_words(figure, column)}"


def _accuracy(row: Row) -> str:
    figure = row.figures.get("accuracy")
    if figure is None:
        return ""
    if figure.value is None:
        return f"has no accuracy ({figure.reason})"
    of = f" of {count_words(figure.unit_count, 'patient')}" if figure.unit_count else ""
    return f"has accuracy {figure_words(figure)} on {count_words(figure.n, 'test record')}{of}"


def _attacked(study: StudyRecord, row: Row) -> str:
    known = {column.key: column for column in columns(study)}
    column = known.get("worst_case") or next((column for column in known.values() if column.robustness), None)
    if column is None:
        return ""
    figure, names = row.figures[column.key], study.attacks("evasion")
    every = "both" if len(names) == 2 else f"all {len(names)}"
    which = f"{every} evasion attacks" if len(names) > 1 else f"the attack {names[0]}"
    if figure.value is None:
        return f"has no figure under {which} ({figure.reason})"
    return f"{figure_words(figure)} under {which}{', a loose bound' if figure.upper else ''}"


def _missing(study: StudyRecord, every: Sequence[Row]) -> list[Sentence]:
    """What failed, was refused or collapsed: the figures are of the others."""
    clean = [row for row in every if row.infected_by == "none"]
    lost = [cell for cell in study.evidence if not cell.ok]
    refused = [row for row in clean if row.status == "refused"]
    collapsed = [row for row in clean if row.collapsed]
    parts = [f"{len(lost)} of {count_words(len(study.evidence), 'model')} failed or are missing"] if lost else []
    parts += [f"{count_words(len(refused), 'arm')} {'was' if len(refused) == 1 else 'were'} refused"] if refused else []
    named = [f"{row.code} ({row.arm.name})" for row in collapsed[:_NAMED]]
    named += [f"{len(collapsed) - _NAMED} more"] if len(collapsed) > _NAMED else []
    one = "is" if len(collapsed) == 1 else "are"
    parts += (
        [f"{join_words(named)} collapsed to nearly one answer and {one} not ranked under attack"] if collapsed else []
    )
    return [Sentence("missing", f"{join_words(parts)}: the figures are of the others.")] if parts else []
