"""Differences between models with what separates them from chance: a paired interval, or a reason why there is none.

Shares are compared record by record (:mod:`..measure.paired`).  Leakage is compared above chance: below it there is no
leakage, so b leaks more than a only where a - b is below 0 and b itself above chance.  Sizes are exact.  Latencies have
the interval of their own timing.  Dice is compared patient by patient, macro AUROC by placements.
Other figures have no interval here, so no order of them is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from consilium.core.finding import Measure
from consilium.measure.paired import Pair, mean_of_ratios, paired
from consilium.report.load.records import CellRecord
from consilium.report.load.task_outcomes import TASK_OUTCOMES

from .columns import TableColumn, measure_of
from .outcomes import Outcomes

__all__ = ["CONFIDENCE", "NOT_COMPARED", "Gap", "Signed", "gap", "shared", "valued"]

CONFIDENCE = 0.95
Signed = tuple[tuple[int, CellRecord], ...]
"""Cells whose figures are summed with these signs: (1, after), (-1, before)."""
_PAIRED = ("accuracy", "balanced_accuracy", "worst_case", "mia_advantage", *TASK_OUTCOMES)


@dataclass(frozen=True)
class Gap:
    """Limits of a mean difference; None with the ``reason`` where it has none.  ``exact``: nothing was sampled."""

    low: float | None = None
    high: float | None = None
    reason: str = ""
    exact: bool = False

    @property
    def sign(self) -> Literal[-1, 0, 1]:
        """On which side of 0 the whole interval lies; 0 where it holds 0 or there is none."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


NOT_COMPARED = Gap(reason="not comparable: no paired interval")


def gap(groups: Sequence[Signed], column: TableColumn, outcomes: Outcomes, confidence: float = CONFIDENCE) -> Gap:
    """The interval of the mean over ``groups``, each a signed sum of cells of one seed."""
    if column.key == "bytes":
        return _exact(groups)
    if column.key == "latency_ratio":
        return _timed(groups)
    if column.key.partition(":")[0] not in _PAIRED and not column.robustness:
        return NOT_COMPARED
    results = [outcomes.pair(group, column.key) for group in groups]
    pairs = [pair for pair in results if isinstance(pair, Pair)]
    if not pairs or len(pairs) < len(results):
        return Gap(reason=next((why for why in results if isinstance(why, str)), "not comparable: no seed in common"))
    _, low, high = paired(pairs, confidence)
    if column.chance is None:
        return Gap(low, high)
    after, before = (_own(groups, sign, column, outcomes, confidence) for sign in (1, -1))
    return _above_chance((low, high), after, before)


def shared(after: Sequence[CellRecord], before: Sequence[CellRecord], key: str) -> list[Signed]:
    """The cells of two arms seed by seed, where both have the figure in column ``key``."""
    known = {cell.seed: cell for cell in before if valued(cell, key) is not None}
    cells = [cell for cell in after if cell.seed in known and valued(cell, key) is not None]
    return [((1, cell), (-1, known[cell.seed])) for cell in cells]


def valued(cell: CellRecord, key: str) -> float | None:
    """The figure of a judged cell in column ``key``, where it has one."""
    measure = measure_of(cell, key) if cell.judged else None
    return None if measure is None else measure.value


def _own(
    groups: Sequence[Signed], sign: int, column: TableColumn, outcomes: Outcomes, confidence: float
) -> tuple[float, float]:
    """Limits above chance of the mean figure of the cells with this ``sign``, by the same records; none below 0."""
    alone = [outcomes.pair([(1, cell) for one, cell in group if one == sign], column.key) for group in groups]
    _, low, high = paired([pair for pair in alone if isinstance(pair, Pair)], confidence)
    return max(0.0, low - (column.chance or 0.0)), max(0.0, high - (column.chance or 0.0))


def _above_chance(raw: tuple[float, float], after: tuple[float, float], before: tuple[float, float]) -> Gap:
    """Limits of max(0, a) - max(0, b) from those of a - b, max(0, a) and max(0, b).

    It has the sign of a - b, is never larger, and never larger than the distance of the greater of the two above
    chance.  That it is not 0 rests on two intervals, each of which must exclude 0 (an intersection-union test).

    Source: Berger 1982, Multiparameter Hypothesis Testing and Acceptance Sampling
    """
    low, high = raw
    low = min(low, after[0]) if low > 0 else max(low, 0.0 - before[1])
    high = max(high, 0.0 - before[0]) if high < 0 else min(high, after[1])
    return Gap(low, high)


def _exact(groups: Sequence[Signed]) -> Gap:
    """The extremes of what was counted, relative to what it was before."""
    sizes = [(valued(after, "bytes"), valued(before, "bytes")) for (_, after), (_, before) in groups]
    steps = [after / before - 1 for after, before in sizes if after is not None and before]
    return Gap(min(steps), max(steps), exact=True) if steps else Gap(reason="not comparable: no figure")


def _timed(groups: Sequence[Signed]) -> Gap:
    """Relative to before; the intervals are those of the timings within each run."""
    ratios = []
    for (_, after), (_, before) in groups:
        limits = [_limits(measure_of(cell, "latency_ratio")) for cell in (before, after)]
        if limits[0] is None or limits[1] is None:
            return Gap(reason="not comparable: a latency without interval")
        ratios.append((limits[0], limits[1]))
    if not ratios:
        return Gap(reason="not comparable: no figure")
    _, low, high = mean_of_ratios(ratios)
    return Gap(low - 1, high - 1)


def _limits(measure: Measure | None) -> tuple[float, float, float] | None:
    if measure is None or measure.value is None or measure.low is None or measure.high is None or measure.low <= 0:
        return None
    return measure.value, measure.low, measure.high
