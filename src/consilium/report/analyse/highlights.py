"""The cards at the top: the study's main findings, each with its interval, its arm and how sure one may be.

An arm is crowned only where it is better than EVERY other one beyond a paired interval (:mod:`.compare`): with k
rivals each at 1 - 0.05/k (Bonferroni), so that all of them hold together.  Else no arm is measurably best, and the
arms that are not distinguishable are named; where the difference is unknown it is "undetermined": absent scores are no
absence of harm.  A lone arm is not the best of any, nor is one at the no-skill level.  A collapsed arm is ranked by
its size alone (LAWS 19: a constant withstands every attack and leaks nothing), a loose bound never.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from consilium.core.count_words import count_words
from consilium.core.rounding import round_down
from consilium.report.load.numbers import interval, number
from consilium.report.load.records import StudyRecord

from .audits import audits
from .columns import TableColumn, columns
from .compare import CONFIDENCE, Gap, Signed, gap, shared, valued
from .leakage import attack_columns, compared_column
from .outcomes import LOST_SCORES, Outcomes
from .summary import Figure, Row, figure_of, flagged_at, inverted, unskilled_row

__all__ = ["ALONE", "NOBODY", "UNDETERMINED", "Highlight", "highlights"]

NOBODY = "no arm is measurably best"
UNDETERMINED = "undetermined"
ALONE = "nothing to compare with"


@dataclass(frozen=True)
class Highlight:
    """A figure with what it is of; ``code`` and ``arm`` name the arm with the best figure, if any arm is meant.

    ``alike`` are code and name of the arms not distinguishable from it: with any, that arm is not ``crowned``.
    """

    title: str
    figure: str
    between: str
    code: str
    arm: str
    text: str
    alike: tuple[tuple[str, str], ...] = ()

    @property
    def crowned(self) -> bool:
        """True where no other arm is indistinguishable from it."""
        return bool(self.code) and not self.alike


def highlights(study: StudyRecord, rows: Sequence[Row]) -> tuple[Highlight, ...]:
    """The verdicts that this study allows; one that it has no figures for is left out."""
    by_key, outcomes = {column.key: column for column in columns(study)}, Outcomes()
    clean = [row for row in rows if row.infected_by == "none"]
    strongest = by_key.get("worst_case") or next((c for c in by_key.values() if c.robustness), None)
    claimed = [row for row in clean if _value(row, "epsilon") is not None]
    best = _Best(study, outcomes)
    candidates = [
        best("Most accurate", clean, by_key.get("accuracy"), "clean arms, whatever their defences"),
        best("Most accurate with an ε", claimed, by_key.get("accuracy"), _epsilons(claimed)),
        best("Withstands most", clean, strongest, "test records right under every evasion attack here"),
        _leaks_least(study, clean, by_key.get("mia_advantage"), best),
        _audited(rows, by_key.get("audited_epsilon")),
        _smallest(clean, by_key.get("bytes")),
        _harm(rows, by_key.get("accuracy"), outcomes),
    ]
    return tuple(card for card in candidates if card is not None)


@dataclass(frozen=True)
class _Best:
    """Makes the card of the best arm, or of those that may be it."""

    study: StudyRecord
    outcomes: Outcomes

    def __call__(
        self,
        title: str,
        rows: Sequence[Row],
        column: TableColumn | None,
        text: str,
        others: Sequence[TableColumn] = (),
    ) -> Highlight | None:
        """Ranked by ``column``; nobody is crowned against an arm than which it is worse in one of the ``others``."""
        ranked = _ranked(rows, column) if column else []
        if not ranked or column is None:
            return None
        text += _lacking(rows, column)
        (row, figure), rivals = ranked[0], [rival for rival, _ in ranked[1:]]
        sign = 1 if column.better == "high" else -1
        gaps = _gaps(rivals, lambda rival: shared(row.cells, rival.cells, column.key), column, self.outcomes)
        worse = {id(rival): self._worse(row, rival, others) for rival in rivals}
        alike = [rival for rival, by in zip(rivals, gaps, strict=True) if by.sign != sign or worse[id(rival)]]
        between = interval(figure.low, figure.high, column.style)
        value = ("≤ " if figure.at_most else "") + number(figure.value, column.style)
        figure_text = f"{value} ({between})" if between else value
        if not rivals:
            why = f"{text}: {figure_text}; no other arm has this figure"
            return Highlight(title, ALONE, "", row.code, row.arm.name, why, _row_names(row))
        doubt = self._doubt(row, figure, column)
        if not alike and doubt:
            why = f"{text}. {_first(ranked, column, figure_text)}. {row.code} {doubt}"
            return Highlight(title, NOBODY, "", row.code, row.arm.name, why, _row_names(row))
        if not alike:
            return Highlight(title, value, between, row.code, row.arm.name, f"{text}; {_beyond(len(rivals))}")
        sentence = f"{text}. {_first(ranked, column, figure_text)}"
        why = _inside(alike, gaps, len(rivals), _lost_scores((row, *rivals), column, self.outcomes))
        why += "".join(f"; worse than {rival.code} by {worse[id(rival)]}" for rival in alike if worse[id(rival)])
        verdict = UNDETERMINED if _unknown([apart for apart in gaps if apart.sign != sign]) else NOBODY
        return Highlight(title, verdict, "", row.code, row.arm.name, f"{sentence}. {why}", _row_names(row, *alike))

    def _doubt(self, row: Row, figure: Figure, column: TableColumn) -> str:
        """Why the figure of ``row`` is no merit, although it is the best; empty where it is one."""
        if flagged_at(row, column):
            return "has a red flag: its accuracy under attack is no evidence of robustness"
        if inverted(figure, column):
            return "leaks to whoever inverts the attack's guesses"
        return "is not above chance: it learned nothing" if unskilled_row(self.study, row) else ""

    def _worse(self, row: Row, rival: Row, others: Sequence[TableColumn]) -> str:
        """The columns in which ``row`` is worse than ``rival`` beyond their paired interval."""
        apart = {c.label: (c, gap(shared(row.cells, rival.cells, c.key), c, self.outcomes)) for c in others}
        return ", ".join(name for name, (c, by) in apart.items() if by.sign == (-1 if c.better == "high" else 1))


def _leaks_least(study: StudyRecord, rows: Sequence[Row], column: TableColumn | None, best: _Best) -> Highlight | None:
    """Every arm under the same attack; an arm that another attack finds to leak more than a rival leads nothing."""
    if column is None:
        return None
    one, every = compared_column(study, column), attack_columns(study, column)
    text, name = "advantage in telling members; 0 or less is a coin", one.key.partition(":")[2]
    if name:
        text = f"advantage of “{name}”, the strongest of {len(every)} attacks over all arms; 0 or less is a coin"
        rows = [replace(row, figures={**row.figures, one.key: figure_of(row.cells, one)}) for row in rows]
    return best("Leaks least", rows, one, text, [other for other in every if other.key != one.key])


def _first(ranked: Sequence[tuple[Row, Figure]], column: TableColumn, value: str) -> str:
    """The best figure with its arm; of leakage, every arm at or below chance: below chance there is no order.

    An arm wholly below chance is named apart: to who inverts the guesses it leaks (:func:`.summary.inverted`).
    """
    level = column.chance
    leaks = [row.code for row, figure in ranked if inverted(figure, column)]
    below = [] if level is None else [row.code for row, figure in ranked if (figure.value or 0.0) <= level]
    idle = [code for code in below if code not in leaks]
    parts = [f"At chance or below: {', '.join(idle)}"] if idle else []
    parts += (
        [f"Wholly below chance, a signal once inverted, counted as chance here: {', '.join(leaks)}"] if leaks else []
    )
    if parts:
        return "; ".join(parts)
    return f"{'Highest' if column.better == 'high' else 'Lowest'}: {value}, {ranked[0][0].code}"


def _audited(rows: Sequence[Row], column: TableColumn | None) -> Highlight | None:
    """A claim that an audit broke, else the largest bound beside a claim; a bound below its claim proves nothing."""
    audited = [
        (audit, row) for row in rows for cell in row.cells for audit in audits(cell) if audit.claimed is not None
    ]
    if column is None or not audited:
        return None
    audit, row = max(audited, key=lambda pair: (pair[0].exceeded, pair[0].epsilon))
    wrong = sum(one.exceeded for one, _ in audited)
    title = f"Claims broken: {wrong} of {count_words(len(audited), 'audit')}" if wrong else "Largest audited ε"
    sure = round_down(audit.confidence, 4)
    text = f"at least this at {sure} confidence, beside a claim of {number(audit.claimed, 'epsilon')}"
    text += "" if wrong else "; no audited claim is broken, which proves none of them"
    without = [c for r in rows for c in r.cells if not audits(c) and not (c.judged and c.privacy.epsilon is None)]
    text += f"; {count_words(len(without), 'model')} with a claim, or not judged, without an audit" if without else ""
    return Highlight(title, number(audit.epsilon, "audited"), "", row.code, row.arm.name, text)


def _smallest(rows: Sequence[Row], column: TableColumn | None) -> Highlight | None:
    """Sizes are exact: an arm is smallest where it is so in every seed."""
    ranked = _ranked(rows, column) if column else []
    sizes = [figure.value for _, figure in ranked if figure.value]
    if column is None or len(sizes) < 2:
        return None
    row, rivals = ranked[0][0], [rival for rival, _ in ranked[1:]]
    apart = [gap(shared(row.cells, rival.cells, column.key), column, Outcomes()) for rival in rivals]
    same = [rival for rival, by in zip(rivals, apart, strict=True) if by.sign >= 0]
    text = f"{1 - sizes[0] / sizes[-1]:.1%} smaller than the largest ({number(sizes[-1], 'bytes')}); bytes are exact"
    lacking = _lacking(rows, column)
    text += lacking
    if len(same) == len(rivals):
        verdict = UNDETERMINED if _unknown([by for by in apart if by.sign >= 0]) else NOBODY
        why = f"no arm is smaller than the others{lacking}" if verdict == NOBODY else f"no seed in common{lacking}"
        return Highlight("Smallest", verdict, "", row.code, row.arm.name, why, _row_names(row, *same))
    text += f"; {count_words(len(same), 'other arm')} as small" if same else ""
    return Highlight(
        "Smallest", number(sizes[0], "bytes"), "", row.code, row.arm.name, text, _row_names(row, *same) if same else ()
    )


def _harm(rows: Sequence[Row], column: TableColumn | None, outcomes: Outcomes) -> Highlight | None:
    """The infection that costs an arm the most accuracy, where any does beyond its paired interval."""
    if column is None:
        return None
    twins = {row.arm.name: row for row in rows if row.infected_by == "none"}
    infected = [row for row in rows if row.infected_by != "none" and row.cells]
    hit = [row for row in infected if row.arm.name in twins]
    change = {id(row): shared(row.cells, twins[row.arm.name].cells, column.key) for row in hit}
    drops = [(_drop(change[id(row)], column.key), row) for row in hit]
    losses = sorted(((drop, row) for drop, row in drops if drop is not None), key=lambda pair: pair[0])
    title = "Infection hurts most"
    lacking = sum(len(row.cells) for row in infected) - sum(len(pairs) for pairs in change.values())
    without = f"{count_words(lacking, 'infected model')} or the clean twin without a figure" if lacking else ""
    if not losses:
        row = infected[0] if infected else None
        return Highlight(title, UNDETERMINED, "", row.code, row.arm.name, without, _row_names(row)) if row else None
    drop, row = losses[0]
    mean = sum(d for d, _ in losses) / len(losses)
    text = f"accuracy against the clean twin, under {row.infected_by}; {number(mean, 'difference')} on average"
    text += f"; {without}" if without else ""
    every = [row for _, row in losses]
    gaps = _gaps(every, lambda one: change[id(one)], column, outcomes)
    figure = number(drop, "difference")
    missing = _lost_scores([*every, *(twins[one.arm.name] for one in every)], column, outcomes)
    if not any(by.sign < 0 for by in gaps):
        largest = f"largest loss {figure}" if drop < 0 else "no arm answers worse than its twin"
        if not lacking and not any(by.reason for by in gaps):
            why = "inside the paired interval of every arm"
            return Highlight(title, "no measurable harm", "", "", "", f"{text}; {largest}: {why}")
        why = missing or "; ".join(sorted({by.reason for by in gaps if by.reason})) or without
        return Highlight(
            title,
            UNDETERMINED,
            "",
            row.code,
            row.arm.name,
            f"{text}; {largest}: {UNDETERMINED}: {why}",
            _row_names(row),
        )
    rivals = every[1:]
    worse = _gaps(rivals, lambda one: _against(change[id(row)], change[id(one)]), column, outcomes)
    alike = [rival for rival, by in zip(rivals, worse, strict=True) if by.sign >= 0]
    if not alike:
        beyond = f"; {_beyond(len(rivals))}" if rivals else ""
        return Highlight(title, figure, _limits(gaps[0]), row.code, row.arm.name, f"{text}{beyond}")
    sentence = f"{text}. Largest: {figure}, {row.code}. {_inside(alike, worse, len(rivals), missing)}"
    verdict = UNDETERMINED if _unknown([by for by in worse if by.sign >= 0]) else "no arm is measurably hurt most"
    return Highlight(title, verdict, "", row.code, row.arm.name, sentence, _row_names(row, *alike))


def _unknown(alike: Sequence[Gap]) -> bool:
    """True where of no rival anything is known: not even that the interval holds 0."""
    return bool(alike) and all(by.reason for by in alike)


def _lost_scores(rows: Sequence[Row], column: TableColumn, outcomes: Outcomes) -> str:
    """How many cells of ``rows`` have lost the scores behind their figures in ``column``; empty for none."""
    cells = {cell.digest: cell for row in rows for cell in row.cells if cell.judged}
    count = sum(outcomes.of(cell, column.key) == LOST_SCORES for cell in cells.values())
    return f"the scores of {count_words(count, 'cell')} are gone or changed" if count else ""


def _lacking(rows: Sequence[Row], column: TableColumn) -> str:
    """How many arms that were to be judged have no figure in ``column``, as the end of a sentence."""
    lacking = [row for row in rows if row.cells and _value(row, column.key) is None]
    return f"; {count_words(len(lacking), 'arm')} without a figure" if lacking else ""


def _gaps(
    rivals: Sequence[Row], groups: Callable[[Row], Sequence[Signed]], column: TableColumn, outcomes: Outcomes
) -> list[Gap]:
    """One interval for each, all together at 95 % (Bonferroni)."""
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(rivals))
    return [gap(groups(rival), column, outcomes, confidence) for rival in rivals]


def _against(one: Sequence[Signed], other: Sequence[Signed]) -> list[Signed]:
    """What ``one`` changes more than ``other``, seed by seed."""
    known = {signed[0][1].seed: signed for signed in other}
    matches = [(signed, known[signed[0][1].seed]) for signed in one if signed[0][1].seed in known]
    return [(*first, *((-sign, cell) for sign, cell in second)) for first, second in matches]


def _beyond(rivals: int) -> str:
    return f"beyond the paired interval against {'each of ' * (rivals > 1)}{_rivals(rivals)} ({_each(rivals)})"


def _inside(alike: Sequence[Row], gaps: Sequence[Gap], rivals: int, missing: str) -> str:
    why = (
        missing
        or "; ".join(sorted({by.reason for by in gaps if by.reason}))
        or f"inside the paired interval ({_each(rivals)})"
    )
    return f"{len(alike)} of {_rivals(rivals)} not distinguishable from it: {why}"


def _rivals(count: int) -> str:
    return count_words(count, "other arm")


def _each(rivals: int) -> str:
    return f"{1 - (1 - CONFIDENCE) / rivals:.2%} each, Bonferroni" if rivals > 1 else "95 %"


def _row_names(*rows: Row) -> tuple[tuple[str, str], ...]:
    return tuple((row.code, row.arm.name) for row in rows)


def _limits(by: Gap) -> str:
    return interval(by.low, by.high, "difference")


def _drop(groups: Sequence[Signed], key: str) -> float | None:
    """Mean over seeds of what the infection changes."""
    steps = [sum(sign * (valued(cell, key) or 0.0) for sign, cell in group) for group in groups]
    return sum(steps) / len(steps) if steps else None


def _ranked(rows: Sequence[Row], column: TableColumn) -> list[tuple[Row, Figure]]:
    """Rows with a figure that may be ranked, best first."""
    figures = [(row, row.figures[column.key]) for row in rows if column.key in row.figures]
    fair = [
        (r, f) for r, f in figures if f.value is not None and not f.upper and (not r.collapsed or column.key == "bytes")
    ]
    return sorted(fair, key=lambda pair: column.ranked(pair[1].value or 0.0), reverse=column.better == "high")


def _epsilons(rows: Sequence[Row]) -> str:
    epsilons = sorted({value for value in (_value(row, "epsilon") for row in rows) if value is not None})
    if not epsilons:
        return ""
    spread = number(epsilons[0], "epsilon") + (f" to {number(epsilons[-1], 'epsilon')}" if len(epsilons) > 1 else "")
    return f"among arms that claim ε = {spread} for a released model"


def _value(row: Row, key: str) -> float | None:
    figure = row.figures.get(key)
    return figure.value if figure else None
