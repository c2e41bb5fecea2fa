"""Whether any attack told members from others, and what audits found, in a sentence each.

A signal is a figure whose whole interval lies on one side of chance: below it too, since who inverts the guess is above
it by as much.  Each figure is at 95 % by itself, so arms without a leak have one at times: how many to expect is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.core.count_words import count_words
from consilium.report.analyse.audits import audits
from consilium.report.analyse.columns import TableColumn, columns
from consilium.report.analyse.summary import Figure, Row, inverted
from consilium.report.load.numbers import number
from consilium.report.load.records import StudyRecord

from .sentence import Sentence
from .wording import figure_words, join_words

__all__ = ["audit_sentences", "membership_sentences"]

_NO_PROOF = "That is no proof: another attack may find more."
_NAMED = 4

_Case = tuple[Row, Figure, TableColumn]


def membership_sentences(study: StudyRecord, every: Sequence[Row]) -> tuple[Sentence, ...]:
    """One, where some membership attack was planned."""
    shown = [column for column in columns(study) if column.group == "Membership"]
    judged = [row for row in every if row.judged and row.infected_by == "none"]
    if not shown or not judged:
        return ()
    known = [(row, row.figures[c.key], c) for c in shown for row in judged if row.figures[c.key].value is not None]
    arms = {row.code for row, _, _ in known}
    if not known:
        reason = next((row.figures[shown[0].key].reason for row in judged), "not measured")
        return (Sentence("membership", f"No membership attack has a figure: {reason}."),)
    above, below = [case for case in known if _above(case)], [case for case in known if inverted(case[1], case[2])]
    text = " ".join([*_signals(above, len(arms)), *_inversions(below, len(arms))]) or _nothing(known, len(arms))
    text += _expected(len(arms), len(shown)) if len(arms) > 1 and above + below else ""
    lacking = len(judged) - len(arms)
    text += f" {count_words(lacking, 'arm')} {'has' if lacking == 1 else 'have'} no figure." if lacking else ""
    return (Sentence("membership", text),)


def audit_sentences(study: StudyRecord) -> tuple[Sentence, ...]:
    """One, where some claim was audited."""
    every = [audit for cell in study.evidence for audit in audits(cell)]
    claimed = [audit for audit in every if audit.claimed is not None]
    if not every:
        return ()
    largest = max(claimed or every, key=lambda audit: (audit.exceeded, audit.epsilon))
    bound = f"the largest lower bound of ε is {number(largest.epsilon, 'audited')}"
    if not claimed:
        return (Sentence("audit", f"{count_words(len(every), 'audit')} of models without a claim: {bound}."),)
    beside = f"{bound}, beside a claim of {number(largest.claimed, 'epsilon')}"
    broken, of = sum(audit.exceeded for audit in claimed), count_words(len(claimed), "audited claim")
    text = f"{broken} of {of} broken" if broken else f"None of {of} is broken, which proves none"
    return (Sentence("audit", f"{text}: {beside}.", warning=broken > 0),)


def _above(case: _Case) -> bool:
    _, figure, column = case
    return column.chance is not None and figure.low is not None and figure.low > column.chance


def _nothing(known: Sequence[_Case], arms: int) -> str:
    where = "the model" if arms == 1 else f"any of {arms} clean arms"
    return f"No membership attack found a signal in {where}: the largest {_largest(known, arms)}. {_NO_PROOF}"


def _signals(above: Sequence[_Case], arms: int) -> list[str]:
    if not above:
        return []
    largest = _largest(above, arms)
    return [f"Membership attacks found a signal in {_where(above, arms)}: the largest {largest}."]


def _inversions(below: Sequence[_Case], arms: int) -> list[str]:
    if not below:
        return []
    return [
        f"In {_where(below, arms)}, a figure lies wholly below chance: whoever inverts the attack's guesses has a "
        "signal there too. Comparisons between arms count it as chance."
    ]


def _expected(arms: int, figures: int) -> str:
    """How many arms without a leak show a signal: at most the sum over figures, at the least that of one."""
    ends = dict.fromkeys(f"{0.05 * count * arms:.1f}" for count in (1, figures))
    return f" Without any leak, about {join_words([*ends], 'to')} of these {arms} arms would show a signal by chance."


def _where(cases: Sequence[_Case], arms: int) -> str:
    """The model, or the arms by code and name."""
    of_arms = {row.code: row for row, _, _ in cases}
    names = [f"{one.code} ({one.arm.name})" for one in list(of_arms.values())[:_NAMED]]
    names += [f"{len(of_arms) - _NAMED} more"] if len(of_arms) > _NAMED else []
    return "the model" if arms == 1 else f"{len(of_arms)} of {arms} clean arms, {join_words(names)}"


def _largest(cases: Sequence[_Case], arms: int) -> str:
    """The largest figure of the first column that ``cases`` have."""
    of_column = [case for case in cases if case[2] == cases[0][2]]
    row, figure, column = max(of_column, key=lambda case: case[1].value or 0.0)
    return f"{column.label} is {_of(row, figure, column, arms)}"


def _of(row: Row, figure: Figure, column: TableColumn, arms: int) -> str:
    whose = f", of arm {row.code} ({row.arm.name})" if arms > 1 else ""
    by = f", by {figure.attack}" if figure.attack else ""
    return f"{figure_words(figure, column, figure.n)}{whose}{by}"
