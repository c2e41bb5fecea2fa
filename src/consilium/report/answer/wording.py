"""Changes and figures in words: points of accuracy, intervals, what is not measurable and what is not known.

A point is a hundredth.  A change is said to cost or to gain only where ``Change.way`` says so; inside its interval it
is not measurable, where pairs disagree or one is 0 it is not consistent, and without an interval nothing is said of it
but why.
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.core.count_words import count_words
from consilium.report.analyse.columns import TableColumn
from consilium.report.analyse.effects import Change
from consilium.report.analyse.summary import Figure
from consilium.report.load.numbers import number

__all__ = ["amount", "change_words", "figure_words", "join_words", "limits", "name_in_words"]

_LEAST = 0.05
"""Relative changes of size below this are left to the table."""


def join_words(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def limits(low: float | None, high: float | None, scale: float = 1.0, digits: int = 3) -> str:
    """``low to high`` with a true minus sign; ``no interval`` where there is none."""
    if low is None or high is None:
        return "no interval"
    return f"{_decimal(scale * low, digits)} to {_decimal(scale * high, digits)}"


def figure_words(figure: Figure, column: TableColumn | None = None, n: int = 0) -> str:
    """A figure with interval, chance level and ``n`` in brackets: ``0.931 (0.910 to 0.948, chance 0.100, n = 359)``."""
    chance = figure.chance if column is None or column.chance is None else column.chance
    inside = [limits(figure.low, figure.high)]
    inside += [] if chance is None else [f"chance {number(chance)}"]
    of = f" records of {count_words(figure.unit_count, 'patient')}" if figure.unit_count else ""
    inside += [f"n = {n:,}{of}"] if n else []
    at_most = "at most " if figure.at_most else ""
    return f"{at_most}{number(figure.value)} ({', '.join(inside)})"


def name_in_words(column: TableColumn) -> str:
    """What a column of effects is called in a sentence."""
    if column.chance is not None:
        return "membership advantage"
    return "accuracy under attack" if column.robustness else column.label


def amount(change: Change) -> str:
    """Size and interval of a change, without its sign: ``10.7 points (9.2 to 12.5)``."""
    low, high = change.gap.low, change.gap.high
    size = f"{100 * abs(change.mean):.1f} points"
    if low is None or high is None:
        return f"{size} ({limits(None, None)})"
    ends = (-high, -low) if change.mean < 0 else (low, high)
    return f"{size} ({limits(*ends, scale=100, digits=1)})"


def change_words(shown: Sequence[tuple[TableColumn, Change]]) -> str:
    """What a choice does to each of the columns, as the rest of a sentence whose subject is the choice."""
    clauses = [_of_way("costs", "loss", shown), _of_way("gains", "gain", shown), *_leakage(shown), *_relative(shown)]
    clauses += [_open(shown), _mixed(shown), _unshared(shown), *_unknown(shown)]
    return join_words([clause for clause in clauses if clause]) or "changes none of the figures"


def _shares(shown: Sequence[tuple[TableColumn, Change]]) -> list[tuple[TableColumn, Change]]:
    return [(column, change) for column, change in shown if column.chance is None and not change.relative]


def _of_way(verb: str, way: str, shown: Sequence[tuple[TableColumn, Change]]) -> str:
    parts = [(column, change) for column, change in _shares(shown) if change.way(column) == way]
    texts = [amount(change).replace(" points", f" points of {name_in_words(column)}", 1) for column, change in parts]
    return f"{verb} {join_words(texts)}" if texts else ""


def _leakage(shown: Sequence[tuple[TableColumn, Change]]) -> list[str]:
    verbs = {"gain": "lowers", "loss": "raises"}
    ways = [(column, change, change.way(column)) for column, change in shown if column.chance is not None]
    return [f"{verbs[way]} {name_in_words(column)} by {amount(change)}" for column, change, way in ways if way in verbs]


def _relative(shown: Sequence[tuple[TableColumn, Change]]) -> list[str]:
    """Bytes, which are exact; a latency depends on what else the machine does, so it is left to the table."""
    return [
        f"makes the model {100 * abs(change.mean):.0f} % {'smaller' if change.mean < 0 else 'larger'}"
        for column, change in shown
        if column.key == "bytes" and change.way(column) in ("gain", "loss") and abs(change.mean) >= _LEAST
    ]


def _open(shown: Sequence[tuple[TableColumn, Change]]) -> str:
    """What is inside its interval, or the same in every pair."""
    texts = [
        f"{name_in_words(column)} ({limits(change.gap.low, change.gap.high, 100, 1)})"
        for column, change in shown
        if not change.relative and change.way(column) in ("open", "equal")
    ]
    return f"has no measurable effect on {join_words(texts, 'or')}" if texts else ""


def _mixed(shown: Sequence[tuple[TableColumn, Change]]) -> str:
    """Where pairs are on both sides of 0."""
    texts = [_mean(column, change) for column, change in _inconsistent(shown) if change.mixed]
    return f"has no consistent effect, as pairs disagree, on {join_words(texts, 'or')}" if texts else ""


def _unshared(shown: Sequence[tuple[TableColumn, Change]]) -> str:
    """Where no pair disagrees, but some pair is exactly 0."""
    texts = [_mean(column, change) for column, change in _inconsistent(shown) if not change.mixed]
    if not texts:
        return ""
    return f"has an effect that not every pair shows, as at least one is unchanged, on {join_words(texts)}"


def _inconsistent(shown: Sequence[tuple[TableColumn, Change]]) -> list[tuple[TableColumn, Change]]:
    return [(column, change) for column, change in shown if not change.relative and change.way(column) == "mixed"]


def _mean(column: TableColumn, change: Change) -> str:
    between = limits(change.gap.low, change.gap.high, 100, 1)
    return f"{name_in_words(column)} (mean {_decimal(100 * change.mean, 1)}, {between})"


def _unknown(shown: Sequence[tuple[TableColumn, Change]]) -> list[str]:
    ways = [(column, change) for column, change in shown if not change.relative and change.way(column) == "unknown"]
    return [f"has an undetermined effect on {name_in_words(column)} ({change.gap.reason})" for column, change in ways]


def _decimal(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", "\N{MINUS SIGN}")
