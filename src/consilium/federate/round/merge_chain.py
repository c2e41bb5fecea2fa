"""The merge of an arm: its rule, else the weighted mean, behind the steps that change the updates before it."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.core.defence import MergeDefence, PreAggregation
from consilium.core.merge import Aggregator, Cohort
from consilium.core.random import Stream

from .weighted_mean import WeightedMean

__all__ = ["chained", "cohorts_seen"]


def cohorts_seen(defences: Sequence[MergeDefence], among: Cohort) -> list[tuple[MergeDefence, Cohort]]:
    """Each of ``defences`` with the cohort whose updates it sees, where ``among`` merge in a round."""
    pairs = []
    for defence in defences:
        pairs.append((defence, among))
        among = defence.cohort_behind(among) if isinstance(defence, PreAggregation) else among
    return pairs


def chained(defences: Sequence[MergeDefence], among: Cohort, stream: Stream) -> Aggregator:
    """What ``defences`` make of a round: a rule draws from ``stream``, a step before it from a child by its kind.

    Raises Refused: the rule cannot stand behind a step.
    """
    rule: Aggregator = WeightedMean()
    for defence, cohort in reversed(cohorts_seen(defences, among)):
        if isinstance(defence, PreAggregation):
            rule = defence.before(rule, stream.child(defence.kind()))
        else:
            rule = defence.merge_for(cohort, stream)
    return rule
