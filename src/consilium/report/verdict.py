"""The cards at the top: what the study found, each with its interval, its arm and how sure one may be.

Cards rank arms on the records they are shown on, so each says how many other arms its interval overlaps.  A collapsed
arm is ranked by its size alone (LAWS 19: a constant withstands every attack and leaks nothing), a loose bound never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .audits import audits
from .columns import Column, columns
from .effects import effects
from .evidence import StudyRecord
from .numbers import interval, number
from .summary import Figure, Row

__all__ = ["Card", "cards"]


@dataclass(frozen=True)
class Card:
    """A figure with what it is of; ``code`` and ``arm`` name the arm it belongs to."""

    title: str
    figure: str
    between: str
    code: str
    arm: str
    text: str


def cards(study: StudyRecord, rows: Sequence[Row]) -> tuple[Card, ...]:
    """The verdicts that this study allows; one that it has no figures for is left out."""
    by_key = {column.key: column for column in columns(study)}
    clean = [row for row in rows if row.infected_by == "none"]
    strongest = by_key.get("worst_case") or next((c for c in by_key.values() if c.robustness), None)
    claimed = [row for row in clean if _value(row, "epsilon") is not None]
    made = [
        _best("Most accurate", clean, by_key.get("accuracy"), "clean arms, whatever their defences"),
        _best("Most accurate with an ε", claimed, by_key.get("accuracy"), _epsilons(claimed)),
        _best(
            "Withstands most",
            clean,
            strongest,
            "test images right under every evasion attack here; a stronger one may break more",
        ),
        _best("Leaks least", clean, by_key.get("mia_advantage"), "advantage in telling members; 0 is a coin"),
        _audited(rows, by_key.get("audited_epsilon")),
        _smallest(clean, by_key.get("bytes")),
        _harm(study, rows, by_key.get("accuracy")),
    ]
    return tuple(card for card in made if card is not None)


def _best(title: str, rows: Sequence[Row], column: Column | None, text: str) -> Card | None:
    ranked = _ranked(rows, column) if column else []
    if not ranked or column is None:
        return None
    row, figure = ranked[0]
    rivals = sum(_overlap(figure, other) for _, other in ranked[1:])
    ties = f"; its interval overlaps {rivals} other arm{'s' * (rivals != 1)}" if rivals else ""
    between = interval(figure.low, figure.high, column.style)
    value = ("≤ " if figure.at_most else "") + number(figure.value, column.style)
    return Card(title, value, between, row.code, row.arm.name, f"{text}{ties}")


def _audited(rows: Sequence[Row], column: Column | None) -> Card | None:
    """A claim that an audit broke, else the largest bound beside a claim; a bound below its claim proves nothing."""
    found = [(audit, row) for row in rows for cell in row.cells for audit in audits(cell) if audit.claimed is not None]
    if column is None or not found:
        return None
    audit, row = max(found, key=lambda pair: (pair[0].exceeded, pair[0].epsilon))
    wrong = sum(one.exceeded for one, _ in found)
    title = f"Claims broken: {wrong} of {len(found)} audits" if wrong else "Largest audited ε"
    text = f"at least this at {audit.confidence:.4g} confidence, beside a claim of {number(audit.claimed, 'epsilon')}"
    text += "" if wrong else "; no claim is broken, which proves none of them"
    return Card(title, number(audit.epsilon, "epsilon"), "", row.code, row.arm.name, text)


def _smallest(rows: Sequence[Row], column: Column | None) -> Card | None:
    ranked = _ranked(rows, column) if column else []
    sizes = [figure.value for _, figure in ranked if figure.value]
    if len(sizes) < 2:
        return None
    row, saved = ranked[0][0], 1 - sizes[0] / sizes[-1]
    same = sizes.count(sizes[0]) - 1
    text = f"{saved:.1%} smaller than the largest ({number(sizes[-1], 'bytes')})"
    text += f"; {same} other arm{'s' * (same != 1)} as small" if same else ""
    return Card("Smallest", number(sizes[0], "bytes"), "", row.code, row.arm.name, text)


def _harm(study: StudyRecord, rows: Sequence[Row], column: Column | None) -> Card | None:
    """The infection that costs an arm the most accuracy, said to be no measurable harm where pairs disagree."""
    if column is None:
        return None
    clean = {row.arm.name: _value(row, column.key) for row in rows if row.infected_by == "none"}
    drops = [
        (_drop(clean.get(row.arm.name), _value(row, column.key)), row) for row in rows if row.infected_by != "none"
    ]
    found = [(drop, row) for drop, row in drops if drop is not None]
    if not found:
        return None
    drop, row = min(found, key=lambda pair: pair[0])
    mean = sum(d for d, _ in found) / len(found)
    text = f"accuracy against the clean twin, under {row.infected_by}; {number(mean, 'difference')} on average"
    twin = next(r for r in rows if r.infected_by == "none" and r.arm.name == row.arm.name)
    spread = _mixed(study, row.infected_by, column)
    if spread and _overlap(twin.figures[column.key], row.figures[column.key]):
        text = f"no measurable harm: pairs lie on both sides of 0 ({spread}); {text}"
    return Card("Infection hurts most", number(drop, "difference"), "", row.code, row.arm.name, text)


def _mixed(study: StudyRecord, infected_by: str, column: Column) -> str:
    """The extremes over pairs of a clean and an infected model where they lie on both sides of 0, else empty."""
    found = [e for e in effects(study) if (e.axis, e.label) == ("infection", infected_by)]
    change = found[0].changes.get(column.key) if found else None
    if change is None or not change.mixed:
        return ""
    return f"{number(change.low, 'difference')} … {number(change.high, 'difference')} over {change.pairs} pairs"


def _ranked(rows: Sequence[Row], column: Column) -> list[tuple[Row, Figure]]:
    """Rows with a figure that may be ranked, best first."""
    found = [(row, row.figures[column.key]) for row in rows if column.key in row.figures]
    fair = [
        (r, f) for r, f in found if f.value is not None and not f.upper and (not r.collapsed or column.key == "bytes")
    ]
    return sorted(fair, key=lambda pair: pair[1].value or 0.0, reverse=column.better == "high")


def _overlap(one: Figure, other: Figure) -> bool:
    """True where neither interval excludes the other; a figure without one is its own."""
    low, high = (one.value if one.low is None else one.low), (one.value if one.high is None else one.high)
    least, most = (other.value if other.low is None else other.low), (other.value if other.high is None else other.high)
    return None not in (low, high, least, most) and bool(least <= high and low <= most)  # type: ignore[operator]


def _epsilons(rows: Sequence[Row]) -> str:
    found = sorted({value for value in (_value(row, "epsilon") for row in rows) if value is not None})
    if not found:
        return ""
    spread = number(found[0], "epsilon") + (f" to {number(found[-1], 'epsilon')}" if len(found) > 1 else "")
    return f"among arms that claim ε = {spread} for a released model"


def _value(row: Row, key: str) -> float | None:
    figure = row.figures.get(key)
    return figure.value if figure else None


def _drop(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
