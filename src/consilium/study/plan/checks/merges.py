"""Whether an arm's merge can be done: one rule, what stands before it, what it reads, and of how many updates."""

from __future__ import annotations

from collections import Counter

from consilium.core.defence import MergeDefence, PreAggregation
from consilium.core.errors import Unlawful
from consilium.core.merge import Cohort
from consilium.core.random import Stream
from consilium.federate.round.merge_chain import chained, cohorts_seen
from consilium.study.spec.arms import Arm

__all__ = ["check_merges"]


def check_merges(arm: Arm, among: Cohort) -> None:
    """Refuse an arm whose merge cannot be made of the updates of ``among``.

    Raises Refused: two rules, a step after the rule or twice, a step that mixes what a claim per site bounds, a rule
    that reads each update behind a mask, or too few updates for one.
    """
    _check_order(arm.merge)
    for defence, cohort in cohorts_seen(arm.merge, among):
        defence.check_cohort(cohort)
    _check_masks(arm, among)
    if len(arm.merge) > 1:
        chained(arm.merge, among, Stream(0))


def _check_order(merges: tuple[MergeDefence, ...]) -> None:
    rules = [defence for defence in merges if not isinstance(defence, PreAggregation)]
    steps = [defence for defence in merges if isinstance(defence, PreAggregation)]
    if len(rules) > 1:
        raise Unlawful(
            f"an arm has one merge and this one has {len(rules)}", law=1, remedy="keep one of them in a choice"
        )
    again = [kind for kind, count in Counter(step.kind() for step in steps).items() if count > 1]
    if again:
        raise Unlawful(f"{again[0]} stands twice before the merge", law=1, remedy="keep one of them")
    if not rules or not steps:
        return
    if merges[-1] is not rules[0]:
        late, rule = merges[-1].kind(), rules[0].kind()
        reason = f"{late} stands after {rule}, and changes the updates before a merge"
        raise Unlawful(reason, law=1, remedy=f"put {late} before {rule} in the study's axes")
    if rules[0].per_site:
        step, rule = steps[0].kind(), rules[0].kind()
        reason = f"{step} mixes the updates of sites, so one site moves more of them than the one that {rule} bounds"
        raise Unlawful(reason, law=15, remedy=f"leave out {step}")


def _check_masks(arm: Arm, among: Cohort) -> None:
    mask = next((defence.kind() for defence in arm.update if defence.stage == "mask"), None)
    if mask is not None and chained(arm.merge, among, Stream(0)).reads == "each":
        kinds = " and ".join(defence.kind() for defence in arm.merge)
        raise Unlawful(
            f"{kinds} must see each update, and behind {mask} the server sees their sum alone",
            law=2,
            remedy=f"leave out {mask}, or use a merge that reads the sum (the weighted mean, noisy-mean)",
        )
