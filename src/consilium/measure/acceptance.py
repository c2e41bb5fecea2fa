"""Whether a figure is on the side of a threshold that was stated before it was measured: met, not met, undecided.

    at least b     met if low >= b      not met if high < b           [low, high]: the 95 % interval over seeds
    at most b      met if high <= b     not met if low > b            anything else is undecided

That is so for an *estimate*.  What an attack found bounds the truth from one side only (LAWS 26), and so decides less:

    ceiling   robust accuracy: the truth is at most this.  At least b can be refuted by an attack, never shown.
    floor     success (of a backdoor too), advantage, audited epsilon: the truth is at least this.  At most b can be
              refuted, never shown.

Over seeds: Student's t on the seeds' figures and, in quadrature, the mean half-width of their own intervals, as
seeds may share their test records.  One seed leaves out the luck of the training.  Counts are exact: their range over
seeds; of claims and of audits' bounds the largest over seeds counts.

Source: Zou and Donner 2008 (MOVER: squared half-widths add); EU AI Act, Annex IV 2(g) requires tests against stated
metrics, and states no threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from consilium.core.finding import Measure

from .intervals import across_seeds
from .mediators import MEDIATORS

__all__ = ["OF_ATTACKS", "OF_MODELS", "Decision", "FigureKind", "decide"]

_Limits = tuple[float, float, float]


@dataclass(frozen=True)
class FigureKind:
    """How a measure's value bounds the true one, how seeds are joined, and its range."""

    sense: Literal["estimate", "ceiling", "floor"] = "estimate"
    joined: Literal["mean", "range", "largest"] = "mean"
    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True)
class Decision:
    """``verdict`` with what it rests on: ``n`` records in each of ``seeds`` seeds; ``reason`` is a clause."""

    verdict: Literal["met", "not met", "undecided"]
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    seeds: int = 0


_SHARE, _COUNT = FigureKind(), FigureKind(joined="range", most=math.inf)
_FLOOR, _CEILING = FigureKind("floor"), FigureKind("ceiling")
_BOUND = FigureKind(joined="largest")
OF_MODELS: Mapping[str, FigureKind] = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "auroc", "sensitivity", "specificity"), _SHARE),
    **dict.fromkeys(("majority_rate", "predicted_majority_share", "expected_calibration_error"), _SHARE),
    "brier_score": FigureKind(most=2.0),
    **dict.fromkeys(("personal_accuracy", "personal_worst_accuracy", "shared_accuracy"), _SHARE),
    **{name: FigureKind(least=-math.inf, most=math.inf) for name in MEDIATORS},
    **dict.fromkeys(("accuracy_members", "accuracy_non_members"), _SHARE),
    "generalisation_gap": FigureKind(least=-1.0),
    **dict.fromkeys(("bytes", "bytes_up_per_round_site", "bytes_down_per_round_site"), _COUNT),
    **dict.fromkeys(("latency_ratio", "rounds_to_accuracy", "bytes_to_accuracy"), FigureKind(most=math.inf)),
    "epsilon": FigureKind(joined="largest", most=math.inf),
}
"""Of a cell itself, by the measure's name; ``epsilon`` is that of its claim."""
_ON_RECORDS = ("advantage", "auc", "tpr_at_fpr_1", "tpr_at_fpr_0.1")
OF_ATTACKS: Mapping[str, Mapping[str, FigureKind]] = {
    "evasion": {"robust_accuracy": _CEILING, "balanced_robust_accuracy": _CEILING, "success_rate": _FLOOR},
    "membership": {
        **dict.fromkeys(_ON_RECORDS, _FLOOR),
        "advantage": FigureKind("floor", least=-1.0),
        **{f"{name}_bound": _BOUND for name in _ON_RECORDS},
    },
    "poisoning": {"backdoor_success": _FLOOR, "target_rate_without_trigger": _SHARE},
    "canaries": {"audited_epsilon": FigureKind("floor", "largest", most=math.inf), "canary_auc": _FLOOR},
}
"""Of a finding, by what the adversary is after.  Bounds with an assumption decide nothing (LAWS 16)."""


def decide(figure: FigureKind, at_least: float | None, at_most: float | None, measures: Sequence[Measure]) -> Decision:
    """The verdict from one measure a seed, against one of both bounds."""
    missing = [measure for measure in measures if measure.value is None]
    if missing or not measures:
        where = f"in {len(missing)} of {len(measures)} seeds: {missing[0].reason}" if missing else "no seed has it"
        return Decision("undecided", f"undefined {where}" if missing else where, seeds=len(measures))
    limits, n = _joined(figure, measures), min(measure.n for measure in measures)
    if limits is None:
        value = measures[0].value
        return Decision("undecided", "one seed, and no interval", value, n=n, seeds=1)
    verdict, reason = _sided(figure, at_least, at_most, limits[1], limits[2])
    if verdict == "undecided":
        reason = f"{reason} (n = {n}, {len(measures)} seed{'s' * (len(measures) > 1)})"
    return Decision(verdict, reason, *limits, n, len(measures))


def _sided(
    figure: FigureKind, at_least: float | None, at_most: float | None, low: float, high: float
) -> tuple[Literal["met", "not met", "undecided"], str]:
    if at_least is not None:
        right, wrong, shows = low >= at_least, high < at_least, figure.sense != "ceiling"
        refutes = figure.sense != "floor"
    else:
        right, wrong, shows = high <= (at_most or 0.0), low > (at_most or 0.0), figure.sense != "floor"
        refutes = figure.sense != "ceiling"
    if right and shows:
        return "met", "the whole interval is on the right side"
    if wrong and refutes:
        return "not met", "the whole interval is on the wrong side"
    if right and not shows:
        return "undecided", "this attack does not refute it, and a stronger one may"
    if wrong and not refutes:
        return "undecided", "this attack does not show it, and a stronger one may"
    return "undecided", "the interval holds the threshold"


def _joined(figure: FigureKind, measures: Sequence[Measure]) -> _Limits | None:
    """Value, low and high over seeds; None where one seed has no interval."""
    values = [measure.value for measure in measures if measure.value is not None]
    if figure.joined == "largest":
        return max(values), max(values), max(values)
    mean, low, high = across_seeds(values)
    if figure.joined == "range":
        return mean, min(values), max(values)
    intervals = [(m.value - m.low, m.high - m.value) for m in measures if None not in (m.value, m.low, m.high)]  # type: ignore[operator]
    if low is None or high is None:
        return None if not intervals else (mean, mean - intervals[0][0], mean + intervals[0][1])
    down, up = (sum(part[k] for part in intervals) / max(1, len(intervals)) for k in (0, 1))
    low, high = mean - math.hypot(mean - low, down), mean + math.hypot(high - mean, up)
    return mean, max(figure.least, low), min(figure.most, high)
