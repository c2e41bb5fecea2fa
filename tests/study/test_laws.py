"""One test per law that studies touch: the refusal before training, or the figure in the evidence.

Laws 2, 3 and 16 wait for secure aggregation, codecs and audits; 12 is in contracts/test_algorithm_contracts.py.
What laws 1 and 4 say of codecs is in test_study_codecs.py.
"""

import csv
import json
import math
import re
from dataclasses import replace

import pytest
import torch

from consilium import Study
from consilium.attack.poisoning.label_flip import LabelFlip
from consilium.core.errors import Refused, Unlawful
from consilium.core.random import Stream
from consilium.defend.answer.round_answer import RoundAnswer
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.client.participant import SiteState
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.tasks.single_label import SingleLabel
from consilium.study.build.factory import colluders, exchange, participants, start
from consilium.study.evaluate.release import release
from consilium.study.evaluate.views import candidates
from consilium.study.plan.plan import make_plan
from consilium.study.spec.parse import parse


@pytest.fixture
def small(tables):
    """The tiny study without axes, attacks or corruptions."""
    return {**tables, "vary": {}, "attacks": [], "corruptions": []}


def varied(tables, **axes):
    return {**tables, "vary": axes}


def refusal(tables, law):
    """The line with which a study is refused under ``law``."""
    with pytest.raises(Unlawful) as caught:
        Study.of(tables).plan()
    assert f"(LAWS {law})" in str(caught.value) and caught.value.remedy
    return str(caught.value)


DP = {"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}
BOUND = {"kind": "norm-bound", "bound": 0.1}


def measures(found):
    return {m["name"]: m for m in found}


# ---- on an update


def test_law_1_there_is_one_order(small):
    """One merge, each update defence once, int8 after what needs float weights; clip and noise come before a bound."""
    assert "one merge" in refusal(varied(small, a=[[{"kind": "median", "name": "m"}, "median"]]), 1)
    twice = [[BOUND, {"kind": "norm-bound", "bound": 0.2, "name": "again"}]]
    assert "norm-bound stands twice" in refusal(varied(small, a=twice), 1)
    wrong = varied(small, a=[["static-int8", {"kind": "prune", "fine-tune-steps": 0}]])
    assert "must be the last" in refusal(wrong, 1)
    right = varied(small, a=[[{"kind": "prune", "fine-tune-steps": 0}, "static-int8"]])
    assert Study.of(right).plan().arms[1].name == "prune+static-int8"
    loud = varied(small, a=[[BOUND, {**DP, "noise-multiplier": 50.0}]])
    plan = Study.of(loud).plan()
    update = _update(plan, plan.arms[1])
    assert float(update.payload["delta"].norm()) <= 0.1


def _update(plan, arm, corruption=None, site="site-0"):
    """What one site sends in the first round, and nobody has touched yet."""
    seed = plan.spec.seeds[0]
    data, net = plan.materials.consortium(seed), plan.materials.network(seed)
    person = participants(plan.spec, arm, seed, corruption, data, net)[site]
    carried = exchange(plan.spec, arm, seed, corruption, data, net)
    return person.work(carried.open(start(plan.spec, arm, data, net))[1], SiteState())[0]


def test_law_4_a_corrupted_site_obeys_no_site_half_but_the_server_half_binds_it(tables):
    rr = {"kind": "label-randomised-response", "epsilon": 1.0}
    tables = {**tables, "attacks": [], "vary": {"all": [[DP, BOUND, rr, {"kind": "adversarial-training"}]]}}
    tables["corruptions"] = [{"kind": "label-flip", "sites": 1}]
    plan = Study.of(tables).plan()
    arm, bad = plan.arms[1], replace(plan.spec.corruptions[0], corruption=LabelFlip(share=0.0))
    data, net = plan.materials.consortium(0), plan.materials.network(0)
    (name,) = colluders(bad, data.sites, 0)
    people = participants(plan.spec, arm, 0, bad, data, net)
    own = next(s for s in data.sites if s.id == name).records.train
    for site, person in people.items():
        corrupted = site == name
        assert isinstance(person.rule, MeanGradient) == corrupted
        assert (person.defences == ()) == corrupted
        assert (type(person.objective).__name__ == "TaskLoss") == corrupted
    assert torch.equal(people[name].train.y, own.y)
    sent = _update(plan, arm, bad, name)
    assert float(sent.payload["delta"].norm()) > 0.1
    carried = exchange(plan.spec, arm, 0, bad, data, net)
    after, _ = carried.server("round", {name: sent}, start(plan.spec, arm, data, net))
    moved = after.server.params - start(plan.spec, arm, data, net).server.params
    assert 0.099 < float(moved.norm()) <= 0.1


# ---- on differential privacy

MIXING = """
from torch import nn, zeros

class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(30, 2)

    def forward(self, x):
        return self.layer(x - x.mean(0))

class Recording(Mixing):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", zeros(30))

    def forward(self, x):
        if self.training:
            self.mean.copy_(x.mean(0))
        return self.layer(x - self.mean)
"""


def test_law_5_no_layer_may_mix_the_examples_of_a_batch(small, tmp_path, monkeypatch):
    images = {**small, "data": {"kind": "digits", "sites": 2}, "vary": {"privacy": [DP]}}
    norm = {"kind": "resnet9", "width": 4, "norm": "batch"}
    assert "BatchNorm2d" in refusal({**images, "model": norm}, 5)
    Study.of({**images, "model": {**norm, "norm": "group", "groups": 2}}).plan()
    Study.of({**images, "model": norm, "vary": {}}).plan()
    (tmp_path / "mixing_layer.py").write_text(MIXING)
    monkeypatch.syspath_prepend(tmp_path)
    user = {"kind": "module", "path": "mixing_layer:Recording", "allow-code": True}
    assert "training changes the module's buffers" in refusal({**varied(small, privacy=[DP]), "model": user}, 5)
    user["path"] = "mixing_layer:Mixing"  # in evaluation too: no figure of any arm would be a record's own
    with pytest.raises(Refused, match="depends on the other examples") as refused:
        Study.of({**small, "model": user}).plan()
    assert refused.value.where == "model"


def test_law_5_adversarial_training_leaves_the_charge_as_it_is(tiny):
    alone, both = (tiny.cells()[arm, "none", 0]["privacy"] for arm in ("dp-sgd", "dp-sgd + adversarial-training"))
    assert alone == both and alone["claims"]


def test_law_5_two_private_rules_do_not_compose(small):
    assert "dp-sgd" in refusal(varied(small, a=[[DP, {**DP, "clip": 2.0}]]), 5)


def test_law_6_the_steps_are_fixed_in_the_plan_and_all_of_them_are_charged(tiny):
    """ceil(E n / B) per round, whatever the samples' sizes were: the ledger says what the plan said."""
    for evidence in tiny.cells().values():
        for claim in evidence["privacy"]["claims"]:
            assert claim["sampler"] == "Poisson sampling" and claim["batch_size"] == 16
            assert claim["steps"] == 3 * math.ceil(2 * claim["n"] / 16)
    one = tiny.cells()["dp-sgd", "none", 0]
    _, sites = load_checkpoint(tiny.folder / "trainings" / one["training"] / "checkpoint.safetensors")
    for claim in one["privacy"]["claims"]:
        ledger = sites[claim["site"]].ledger
        assert [charge.count for charge in ledger] == [math.ceil(2 * claim["n"] / 16) * 3]


def test_law_7_a_batch_above_n_and_a_delta_of_1_over_n_are_refused_naming_the_site(small):
    line = refusal(varied(small, privacy=[{**DP, "batch": 60}]), 7)
    assert "site-2" in line and "55 training records" in line
    line = refusal(varied(small, privacy=[{**DP, "delta": 0.02}]), 7)
    assert "site-0" in line and "1/n" in line and "164 training records" in line
    Study.of(varied(small, privacy=[{**DP, "batch": 55}])).plan()


def test_law_7_a_given_sigma_makes_the_smallest_site_the_maximum(tiny):
    claims = tiny.cells()["dp-sgd", "none", 0]["privacy"]["claims"]
    assert len({c["noise_multiplier"] for c in claims}) == 1
    assert max(claims, key=lambda c: c["epsilon"]) == min(claims, key=lambda c: c["n"])


def test_law_8_a_site_composes_its_own_steps_over_all_rounds(small, tiny):
    few, many = (
        Study.of({**varied(small, privacy=[DP]), "federation": {**small["federation"], "rounds": rounds}}).plan()
        for rounds in (3, 6)
    )
    steps = [{c.site: (c.steps, c.epsilon) for held in p.claims.values() for c in held} for p in (few, many)]
    for site, (count, epsilon) in steps[0].items():
        assert steps[1][site][0] == 2 * count and steps[1][site][1] > epsilon
    notes = " ".join(tiny.cells()["dp-sgd", "none", 0]["privacy"]["notes"])
    assert "No unit is at two sites" in notes and "LAWS 8" in notes


def test_law_9_ranges_read_from_private_records_owe_a_charge(small, tmp_path):
    rows = ["age,dose,ill"] + [f"{20 + i % 60},{i % 7},{(i % 60 > 30) * 1}" for i in range(300)]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    data = {"kind": "table", "path": str(tmp_path / "table.csv"), "label": "ill", "sites": 2}
    study = {**varied(small, privacy=[DP]), "data": data}
    assert "read from private records" in refusal(study, 9)
    Study.of({**study, "vary": {}}).plan()
    ranges = [["age", 0.0, 120.0], ["dose", 0.0, 10.0]]
    Study.of({**study, "data": {**data, "ranges": ranges, "categories": [["ill", "0", "1"]]}}).plan()


def test_law_9_what_is_taken_as_public_is_printed(tiny):
    assert "number of training records is taken as public (LAWS 9)" in " ".join(
        tiny.cells()["dp-sgd", "none", 0]["privacy"]["notes"]
    )


def test_law_10_what_is_fitted_after_training_needs_the_public_slice(small):
    none = {**small, "data": {**small["data"], "public": 0.0}}
    for kind in ("static-int8", "prune"):
        assert f"{kind} is fitted on public records" in refusal(varied(none, compression=[kind]), 10)
    Study.of(varied(none, compression=[{"kind": "prune", "fine-tune-steps": 0}])).plan()


def test_law_10_no_test_record_touches_the_model(small, tmp_path):
    """Calibration sees the public slice alone: with it, and it alone, the artefact is made."""
    plan = Study.of(varied(small, compression=["static-int8"])).plan()
    data, arm = plan.materials.consortium(0), plan.arms[1]
    plain = plan.materials.network(0).module_at(*plan.materials.network(0).start())
    made = []
    for i, public in enumerate((data.public, data.public, data.test)):
        path = tmp_path / f"{i}.safetensors"
        release(plain, arm.model, (), public, SingleLabel(), path, Stream(0))
        made.append(path.read_bytes())
    assert made[0] == made[1] != made[2]


def test_law_11_a_label_claim_stands_beside_an_example_claim_and_is_never_added(small, run_study):
    rr = {"kind": "label-randomised-response", "epsilon": 2.0}
    axes = {"privacy": [DP, rr], "labels": [{**rr, "epsilon": 3.0, "name": "rr-3"}]}
    ran = run_study({**small, "vary": axes, "unlawful": "skip"})
    cells = ran.cells()
    twice = next(a for a in ran.study()["arms"] if a["name"] == "label-randomised-response + rr-3")
    assert twice["refusal"]["law"] == 11 and "stands twice" in twice["refusal"]["reason"]
    alone, labels = cells["dp-sgd", "none", 0]["privacy"], cells["label-randomised-response", "none", 0]["privacy"]
    both = cells["dp-sgd + rr-3", "none", 0]["privacy"]
    assert labels["epsilon"] == 2.0 and labels["unit"] == "label"
    assert {c["unit"] for c in labels["claims"]} == {"label"}
    assert {c["unit"] for c in both["claims"]} == {"label", "example"} and len(both["claims"]) == 6
    assert both["epsilon"] == alone["epsilon"] and both["unit"] == "example"
    assert {c["epsilon"] for c in both["claims"] if c["unit"] == "label"} == {3.0}


def test_law_13_above_the_cap_nothing_is_trained_whatever_the_unit(small):
    line = refusal(varied(small, privacy=[{**DP, "noise-multiplier": 0.2}]), 13)
    assert re.search(r"epsilon = \d+.* per example at site-1 .* is above max-epsilon = 20", line)
    line = refusal(varied(small, privacy=[{"kind": "label-randomised-response", "epsilon": 21.0}]), 13)
    assert "epsilon = 21 per label" in line


def test_law_13_a_claim_says_against_whom_by_which_accountant_under_which_noise(tiny):
    privacy = tiny.cells()["dp-sgd", "none", 0]["privacy"]
    for claim, statement in zip(privacy["claims"], privacy["statements"], strict=True):
        assert claim["against"] and claim["accountant"] == "PLD" and claim["noise"].startswith("replayable")
        for words in (
            "differentially private per example",
            "add-or-remove-one",
            claim["against"],
            "noise seed is known",
        ):
            assert words in statement


def test_law_14_a_claim_is_of_one_model_and_the_report_says_so_at_the_top(tiny):
    notes = " ".join(tiny.cells()["dp-sgd", "none", 0]["privacy"]["notes"])
    assert "this one model" in notes and "no finite epsilon" in notes and "LAWS 14" in notes
    page = (tiny.folder / "report.html").read_text(encoding="utf-8")
    above, matrix, _ = page.partition('id="matrix"')
    assert matrix and "no finite epsilon" in above  # after the answer and the effects, before any arm's figures


def test_law_15_a_claim_covers_honest_sites_only(tiny):
    clean, infected = (tiny.cells()["dp-sgd", by, 0]["privacy"] for by in ("none", "label-flip"))
    trained = json.loads(
        (tiny.folder / "trainings" / tiny.cells()["dp-sgd", "label-flip", 0]["training"] / "training.json").read_text()
    )
    (bad,) = trained["corrupted"]
    assert {c["site"] for c in clean["claims"]} - {c["site"] for c in infected["claims"]} == {bad}
    assert f"honest sites only; {bad} obeyed no defence (LAWS 15)" in " ".join(infected["notes"])


# ---- on what is measured


def test_law_17_members_and_non_members_come_from_the_same_sites_pools(tables):
    data = make_plan(parse(tables)).materials.consortium(0)
    pools = {
        name: {int(i) for s in data.sites for i in getattr(s.records, name).ids}
        for name in ("train", "validation", "non_members")
    } | {"test": set(data.test.ids.tolist()), "public": set(data.public.ids.tolist())}
    assert sum(map(len, pools.values())) == len(set().union(*pools.values()))
    assert all(pools.values())
    honest = tuple(s.id for s in data.sites[:2])
    records, member, known = candidates(data, honest, Stream(0))
    inside, outside = ({*records.ids[member == truth].tolist()} for truth in (True, False))
    assert inside == {int(i) for s in data.sites[:2] for i in s.records.train.ids}
    assert outside == {int(i) for s in data.sites[:2] for i in s.records.non_members.ids}
    assert 0.4 < float(known.float().mean()) < 0.6


def test_law_18_what_cannot_be_resolved_is_not_printed(tiny):
    for evidence in tiny.cells().values():
        found = measures(evidence["findings"]["loss-threshold"]["measures"])
        for name in ("tpr_at_fpr_1", "tpr_at_fpr_0.1"):
            assert found[name]["value"] is None
            assert re.fullmatch(r"not resolvable \(n = \d+\)", found[name]["reason"])
        assert found["advantage"]["chance"] == 0 and found["auc"]["chance"] == 0.5


def test_law_19_the_majority_rate_stands_everywhere_and_a_collapsed_arm_is_marked(tiny, small, run_study):
    for evidence in tiny.cells().values():
        assert measures(evidence["utility"])["majority_rate"]["value"] == pytest.approx(71 / 114)
        assert evidence["collapsed"] is False
    constant = {**small, "model": "logistic", "attacks": [{"kind": "fgsm", "radius": 0.01}]}
    constant["federation"] = {"kind": "fed-avg", "rounds": 1, "batch": 0, "lr": 90.0}
    ran = run_study(constant)
    (evidence,) = ran.cells().values()
    assert evidence["collapsed"] is True
    with (ran.folder / "table.csv").open() as file:
        assert next(csv.DictReader(file))["collapsed"] == "true"


def test_law_20_the_whole_test_set_worst_case_per_image(tiny):
    from safetensors.torch import load_file

    with (tiny.folder / "table.csv").open() as file:
        table = {(r["arm"], r["infected_by"]): r for r in csv.DictReader(file)}
    for (arm, infected_by, _), evidence in tiny.cells().items():
        folder, masks = tiny.cell(arm, infected_by), []
        for name in ("fgsm", "transfer"):
            finding = evidence["findings"][name]
            robust = measures(finding["measures"])["robust_accuracy"]
            assert robust["n"] == 114
            masks.append(load_file(folder / finding["scores"])["correct"])
            assert robust["value"] == pytest.approx(float(masks[-1].double().mean()))
        worst = float((masks[0] & masks[1]).double().mean())
        assert float(table[arm, infected_by]["worst_case"]) == pytest.approx(worst)


def test_law_20_without_a_surrogate_nothing_adaptive_is_claimed(small, tmp_path, monkeypatch):
    monkeypatch.setattr(RoundAnswer, "surrogate", lambda self, before: None)
    study = {**varied(small, answer=["round-answer"]), "attacks": [{"kind": "fgsm", "radius": 0.05}]}
    results = Study.of(study).run(tmp_path, quiet=True)
    cells = [json.loads(p.read_text()) for p in (results.folder / "cells").glob("*/evidence.json")]
    (rounded,) = (c for c in cells if c["cell"]["arm"] == "round-answer")
    robust = measures(rounded["findings"]["fgsm"]["measures"])["robust_accuracy"]
    assert robust["value"] is None and "not adaptively evaluated" in robust["reason"]
    assert rounded["status"] == "ok"


def test_law_21_bytes_are_those_of_the_file_and_latencies_of_real_kernels(tiny):
    for evidence in tiny.cells().values():
        cost = measures(evidence["cost"])
        file = tiny.folder / "models" / evidence["model"] / "model.safetensors"
        assert cost["bytes"]["value"] == file.stat().st_size
        latency = cost["latency_ratio"]
        assert latency["n"] >= 10 and latency["low"] <= latency["value"] <= latency["high"]
    sizes = {arm: measures(e["cost"])["bytes"]["value"] for (arm, by, _), e in tiny.cells().items() if by == "none"}
    assert sizes["static-int8"] < 0.5 * sizes["none"]


def test_law_21_a_model_that_has_no_int8_kernels_is_refused_before_training(small, tmp_path, monkeypatch):
    (tmp_path / "smooth_layer.py").write_text(
        "from torch.nn import *\n\ndef smooth():\n    return Sequential(Linear(30, 8), SiLU(), Linear(8, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    user = {"kind": "module", "path": "smooth_layer:smooth", "allow-code": True}
    assert "SiLU has no int8 kernel" in refusal({**varied(small, compression=["static-int8"]), "model": user}, 21)
    Study.of({**small, "model": user}).plan()


def test_unlawful_arms_are_left_out_by_name_on_request(small, run_study):
    tables = {**varied(small, privacy=[{**DP, "noise-multiplier": 0.01}], compression=["prune"]), "unlawful": "skip"}
    ran = run_study(tables)
    arms = {arm["name"]: arm for arm in ran.study()["arms"]}
    assert [name for name, arm in arms.items() if arm["status"] == "refused"] == ["dp-sgd", "dp-sgd + prune"]
    assert arms["dp-sgd"]["refusal"]["law"] == 13 and arms["dp-sgd"]["refusal"]["remedy"]
    assert ran.done.json["trained"] == 1 and {a for a, *_ in ran.cells()} == {"none", "prune"}
    with (ran.folder / "table.csv").open() as file:
        rows = {r["arm"]: r["status"] for r in csv.DictReader(file)}
    assert rows == {"none": "ok", "prune": "ok", "dp-sgd": "refused", "dp-sgd + prune": "refused"}
    page = (ran.folder / "report.html").read_text(encoding="utf-8")
    assert "LAWS 13" in page and "above max-epsilon" in page


def test_nothing_lawful_is_a_refusal_all_the_same(small):
    tables = {**small, "data": {**small["data"], "public": 0.0}, "model": {"kind": "mlp"}, "unlawful": "skip"}
    tables["vary"] = {"privacy": [DP]}
    tables["max-epsilon"] = 1e-9
    assert len(Study.of(tables).plan().refused) == 1
    tables["attacks"] = [{"kind": "transfer", "from": {"privacy": "dp-sgd"}}]
    with pytest.raises(Refused, match="crafts on the arm 'dp-sgd', which is unlawful"):
        Study.of(tables).plan()
