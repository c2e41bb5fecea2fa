"""Merge rules in a study: refused at plan with the numbers, steps before a rule, and the server's own training."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pytest
import torch

from consilium import Study
from consilium.core.catalogue import cards, load_entry
from consilium.core.defence import PreAggregation, UpdateDefence
from consilium.core.errors import Refused, Unlawful
from consilium.core.merge import Cohort
from consilium.defend.merge.noisy_mean import NoisyMean
from consilium.federate.client.participant import Participant, SiteState
from consilium.study.build.factory import exchange, start
from consilium.study.plan.checks.merges import check_merges
from consilium.study.spec.arms import Arm

STUDY = {
    "name": "merging",
    "threads": 1,
    "data": {"kind": "breast-cancer", "sites": 7, "partition": "iid"},
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 2, "engine": "loop"},
}
RULES = [load_entry(card)() for card in cards("defend/merge")]


def study(*merges, sites=7, public=0.1, **federation):
    data = {**STUDY["data"], "sites": sites, "public": public}
    return Study.of(
        {**STUDY, "data": data, "federation": {**STUDY["federation"], **federation}, "vary": {"merge": list(merges)}}
    )


@pytest.mark.parametrize(
    ("merge", "line"),
    [
        (
            {"kind": "krum", "byzantine": 3},
            "krum with byzantine = 3 needs 2f + 3 = 9 updates a round, and 7 are expected",
        ),
        ({"kind": "multi-krum", "byzantine": 3}, "multi-krum with byzantine = 3 needs 2f + 3 = 9 updates"),
        ({"kind": "bulyan", "byzantine": 2}, "bulyan with byzantine = 2 needs 4f + 3 = 11 updates a round"),
        ({"kind": "trimmed-mean", "byzantine": 4}, "trimmed-mean with byzantine = 4 needs 2f + 1 = 9 updates"),
        ({"kind": "divide-and-conquer", "byzantine": 4}, "divide-and-conquer with byzantine = 4 needs 2f + 1 = 9"),
        ({"kind": "krum", "byzantine": 70}, "needs 2f + 3 = 143 updates a round, and 7 are expected"),
        ([{"kind": "bucketing", "size": 3}, "krum"], "krum with byzantine = 1 needs 2f + 3 = 5 updates a round, and 3"),
        ([{"kind": "bucketing", "size": 7}, "median"], "bucketing with size = 7 makes one mean of the 7 updates"),
        ([{"kind": "nearest-neighbour-mixing", "byzantine": 4}, "krum"], "needs 2f + 1 = 9 updates a round, and 7"),
        (["bucketing", "foolsgold"], "a rule that remembers each site cannot stand behind bucketing"),
        (["krum", "median"], "an arm has one merge and this one has 2"),
        (["krum", "bucketing"], "bucketing stands after krum, and changes the updates before a merge"),
        (["bucketing", {"kind": "bucketing", "size": 3}], "bucketing stands twice before the merge"),
    ],
)
def test_what_cannot_be_merged_is_refused_at_plan_in_one_line(merge, line):
    with pytest.raises(Unlawful) as caught:
        study(merge).plan()
    assert line in str(caught.value) and "\n" not in str(caught.value) and caught.value.remedy
    assert "(LAWS 1)" in str(caught.value)


def test_the_cohort_of_a_round_counts_and_not_the_population():
    with pytest.raises(Unlawful, match="needs 2f \\+ 3 = 5 updates a round, and 4 are expected"):
        study("krum", fraction=0.5).plan()
    assert study({"kind": "krum", "byzantine": 0}, fraction=0.5).plan()


def test_a_claim_per_site_stands_behind_no_mixing():
    """One site would be in many mixed updates, and the clip bounds one."""
    central = {"kind": "dp-fed-avg", "noise-multiplier": 20.0, "adjacency": "replace-one"}
    with pytest.raises(Unlawful, match=r"nearest-neighbour-mixing mixes .* that dp-fed-avg bounds \(LAWS 15\)"):
        study(["nearest-neighbour-mixing", central], sites=100, weights="uniform").plan()


def test_the_servers_training_needs_the_public_slice():
    with pytest.raises(Unlawful, match=r"fl-trust is fitted on public records and there are none \(LAWS 10\)"):
        study("fl-trust", public=0.0).plan()
    assert study("fl-trust").plan()


@dataclass(frozen=True)
class Masked(UpdateDefence):
    """Behind it the server sees the sum alone."""

    stage: ClassVar[Literal["clip", "noise", "compress", "mask"]] = "mask"

    def protect(self, update, memory, stream):
        return update, memory

    def enforce(self, update, expected):
        return update


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind())
def test_law_2_what_reads_each_update_is_refused_behind_a_mask(rule):
    """By what it says that it reads: every rule of the catalogue, and those that are dropped in."""
    arm, among = Arm("a", {}, (Masked(), rule)), Cohort(9, 3)
    reads_each = isinstance(rule, PreAggregation) or rule.merge().reads == "each"
    assert reads_each == (not isinstance(rule, NoisyMean))
    check_merges(Arm("b", {}, (rule,)), among)
    if not reads_each:
        check_merges(arm, among)
        return
    with pytest.raises(Unlawful) as caught:
        check_merges(arm, among)
    assert f"{rule.kind()} must see each update" in str(caught.value) and "(LAWS 2)" in str(caught.value)
    assert caught.value.remedy.startswith("leave out ")


def test_what_streams_is_added_as_it_comes_and_the_others_are_held():
    plan = study("krum", "robust-learning-rate", "fl-trust", "noisy-mean").plan()
    data, net = plan.materials.consortium(0), plan.materials.network(0)
    streams = {arm.name: exchange(plan.spec, arm, 0, None, data, net).honest.half.streams for arm in plan.arms}
    assert streams == {"none": True, "krum": False, "robust-learning-rate": True, "fl-trust": True, "noisy-mean": True}


def test_the_servers_own_update_is_local_work_on_the_public_slice():
    """As a participant does it who has those records: same parts, same bits at each call, no site's record read."""
    plan = study("fl-trust").plan()
    data, net = plan.materials.consortium(0), plan.materials.network(0)
    arm = next(arm for arm in plan.arms if arm.merge)
    half = exchange(plan.spec, arm, 0, None, data, net).honest.half
    state = start(plan.spec, arm, data, net)
    one, two = half.root(state.server), half.root(state.server)
    assert {k: tuple(t.shape) for k, t in one.items()} == dict(half.algorithm.expects(state.server))
    assert all(torch.equal(one[name], two[name]) for name in one)
    person = half.root.participant
    assert torch.equal(person.train.ids, data.public.ids) and person.defences == ()
    sent, _ = person.work(half.algorithm.broadcast(state.server), SiteState())
    assert torch.equal(sent.payload["delta"], one["delta"]) and float(one["delta"].norm()) > 0
    assert exchange(plan.spec, plan.arms[0], 0, None, data, net).honest.half.root is None


def test_rules_run_in_a_study_and_resist_what_the_mean_does_not(tmp_path):
    """One site of seven sends its update turned and a hundred times as long: evidence of each arm, and its accuracy."""
    work = Participant.work

    def forging(self, broadcast, state):
        update, after = work(self, broadcast, state)
        if self.site.id == "site-2":
            update = replace(update, payload={**update.payload, "delta": -100 * update.payload["delta"]})
        return update, after

    merges = ["krum", "fl-trust", ["nearest-neighbour-mixing", "krum"], "centred-clipping"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Participant, "work", forging)
        results = study(*merges, rounds=6).run(tmp_path, quiet=True)
    found = {}
    for path in results.folder.glob("cells/*/evidence.json"):
        evidence = json.loads(path.read_text())
        assert evidence["status"] == "ok"
        (score,) = [m["value"] for m in evidence["utility"] if m["name"] == "accuracy"]
        found[evidence["merge"]["kind"]] = score
    assert set(found) == {"weighted-mean", "krum", "fl-trust", "nearest-neighbour-mixing+krum", "centred-clipping"}
    assert all(score > found["weighted-mean"] + 0.2 for kind, score in found.items() if kind != "weighted-mean")


def test_an_axis_of_steps_crosses_one_of_rules():
    """Each step before each rule, and alone before the mean."""
    table = {**STUDY, "vary": {"before": ["nearest-neighbour-mixing"], "merge": ["krum", "median"]}}
    kinds = ["+".join(d.kind() for d in arm.merge) for arm in Study.of(table).plan().arms]
    step = "nearest-neighbour-mixing"
    assert kinds == ["", "krum", "median", step, f"{step}+krum", f"{step}+median"]
    with pytest.raises(Refused, match="stands after krum"):
        Study.of({**table, "vary": dict(reversed(table["vary"].items()))}).plan()
