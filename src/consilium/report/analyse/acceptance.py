"""What the study accepts, beside what it found: on the page and in the terminal.

The verdicts are computed again from the evidence that the page shows, as the run made those in ``study.json``: where a
cell was changed since, its figures are left out here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from consilium.core.finding import Measure
from consilium.evidence.acceptance import AcceptanceEvidence, ThresholdEvidence, VerdictEvidence
from consilium.report.load.numbers import interval, number, style_of
from consilium.report.load.read import read_study
from consilium.report.load.records import StudyRecord
from consilium.study.evaluate.acceptance import verdicts

__all__ = ["AcceptanceLine", "AcceptanceView", "acceptance_table", "acceptance_view"]

_MOODS = {"met": "good", "not met": "bad"}
_STYLES = {"met": "green", "not met": "red"}
_NONE = "No threshold is stated any more."


@dataclass(frozen=True)
class AcceptanceLine:
    """One verdict, written out."""

    threshold: str
    arm: str
    value: str
    between: str
    n: str
    seeds: int
    verdict: str
    mood: str
    reason: str


@dataclass(frozen=True)
class AcceptanceView:
    """When it was stated, what must be known of that, and a line a verdict."""

    statement: str
    notes: tuple[str, ...]
    lines: tuple[AcceptanceLine, ...]


def acceptance_view(study: StudyRecord) -> AcceptanceView | None:
    """None where the study never stated a threshold."""
    accept = study.accept
    if accept is None:
        return None
    lines = tuple(_line(accept.thresholds[v.threshold], v) for v in verdicts(study, study.evidence))
    return AcceptanceView(_statement(accept, len(lines)), accept.notes, lines)


def acceptance_table(folder: Path) -> Table | None:
    """The same for the terminal."""
    view = acceptance_view(read_study(folder))
    if view is None:
        return None
    caption = "\n".join([view.statement, *(f"{note}." for note in view.notes)])
    table = Table(
        title="What was to be accepted", caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD
    )
    for heading in ("threshold", "arm", "figure", "95 % interval", "verdict", "why"):
        table.add_column(heading, overflow="fold")
    for line in view.lines:
        verdict = Text(line.verdict, _STYLES.get(line.verdict, ""))
        table.add_row(line.threshold, line.arm, line.value, line.between, verdict, line.reason)
    return table


def _statement(accept: AcceptanceEvidence, count: int) -> str:
    if not accept.thresholds:
        return _NONE
    when = "after the figures were known" if accept.after_figures else "before any figure was known"
    k, v = len(accept.thresholds), count
    return (
        f"{k} threshold{'s' * (k != 1)}, stated {when}: {accept.stated}, SHA-256 {accept.sha256}. {v} "
        f"verdict{'s' * (v != 1)}: each interval is at 95 % for itself, without a correction for their number."
    )


def _line(threshold: ThresholdEvidence, verdict: VerdictEvidence) -> AcceptanceLine:
    style = style_of(Measure(threshold.measure, 0.0))
    return AcceptanceLine(
        threshold=_words(threshold),
        arm=verdict.arm,
        value=number(verdict.value, style),
        between=interval(verdict.low, verdict.high, style),
        n=f"{verdict.n:,}" if verdict.n else "",
        seeds=verdict.seeds,
        verdict=verdict.verdict,
        mood=_MOODS.get(verdict.verdict, ""),
        reason=verdict.reason,
    )


def _words(threshold: ThresholdEvidence) -> str:
    bound = f"≥ {threshold.at_least:g}" if threshold.at_least is not None else f"≤ {threshold.at_most or 0:g}"
    whose = f" ({threshold.attack})" if threshold.attack else ""
    infected = f", infected by {threshold.corruption}" if threshold.corruption else ""
    return f"{threshold.measure.replace('_', ' ')}{whose} {bound}{infected}"
