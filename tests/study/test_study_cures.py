"""What cures a trained model, in whole studies: refused in the plan, free of charge, and a backdoor that falls."""

import json

import pytest

from consilium import Study
from consilium.core.errors import Unlawful

DIGITS = {
    "name": "cured",
    "threads": 1,
    "data": {"kind": "digits", "sites": 5, "partition": "iid", "public": 0.1},
    "model": {"kind": "cnn", "width": 16},
    "federation": {"kind": "fed-avg", "lr": 0.1, "momentum": 0.9, "rounds": 8, "local-epochs": 2, "batch": 32},
}
PRUNED = {"kind": "fine-pruning", "lr": 0.05}
BAD_NETS = {"kind": "bad-nets", "share": 0.5, "size": 2}
FITTED = ["fine-pruning", "adversarial-neuron-pruning", "neural-cleanse"]


def refusal(*choices, **tables):
    with pytest.raises(Unlawful) as caught:
        Study.of({**DIGITS, "vary": {"cure": list(choices)}, **tables}).plan()
    return str(caught.value)


@pytest.mark.parametrize("kind", FITTED)
def test_law_10_what_is_fitted_needs_public_records(kind):
    none = {**DIGITS["data"], "public": 0.0}
    assert f"{kind} is fitted on public records and there are none" in refusal(kind, data=none)
    Study.of({**DIGITS, "data": none, "vary": {"cure": ["channel-lipschitzness-pruning"]}}).plan()


@pytest.mark.parametrize("kind", [*FITTED, "channel-lipschitzness-pruning"])
def test_law_1_int8_follows_them(kind):
    assert "static-int8 must be the last" in refusal(["static-int8", kind])
    bare = {"kind": "prune", "fine-tune-steps": 0}
    Study.of({**DIGITS, "vary": {"cure": [[bare, kind, "static-int8", "calibrate"]]}}).plan()


def test_what_has_no_meaning_is_refused_with_the_numbers():
    two = {"kind": "breast-cancer", "sites": 3, "public": 0.1}
    assert "2 classes are both 0.67 deviations" in refusal("neural-cleanse", data=two, model="mlp")
    for kind in ("fine-pruning", "channel-lipschitzness-pruning", "adversarial-neuron-pruning"):
        assert f"{kind} prunes channels of hidden layers" in refusal(kind, model="logistic")
    narrow = {"kind": "cnn", "width": 4}
    assert "widest hidden layer has n = 8" in refusal("channel-lipschitzness-pruning", model=narrow)


def test_they_cost_no_epsilon():
    """Public records and weights alone are looked at: the claim is that of the arm without a cure."""
    private = {"kind": "dp-sgd", "epsilon": 4.0, "delta": 1e-3}
    every = [*FITTED, "channel-lipschitzness-pruning"]
    plan = Study.of({**DIGITS, "vary": {"privacy": [private], "cure": every}}).plan()
    trainings = {cell.training for cell in plan.cells if cell.arm.training}
    assert len([cell for cell in plan.cells if cell.arm.training and cell.arm.model]) == 4 and len(trainings) == 1


def evidence(results):
    for path in results.folder.glob("cells/*/evidence.json"):
        cell = json.loads(path.read_text())
        measures = {m["name"]: m for m in cell["utility"]}
        success = {m["name"]: m for m in cell["findings"]["bad-nets.success"]["measures"]}
        yield cell["cell"], measures, success["backdoor_success"]["value"]


def test_a_backdoor_falls_at_two_points_of_accuracy_at_most(tmp_path):
    study = Study.of({**DIGITS, "vary": {"cure": [PRUNED]}, "corruptions": [BAD_NETS]})
    results = study.run(tmp_path, quiet=True)
    assert not results.outcome.failed
    cells = {(cell["arm"], cell["infected_by"]): (m["accuracy"]["value"], s) for cell, m, s in evidence(results)}
    (before, planted), (after, left) = cells["none", "bad-nets"], cells["fine-pruning", "bad-nets"]
    assert planted > 0.5 and left < 0.5 * planted and after > before - 0.02
    assert cells["fine-pruning", "none"][0] > cells["none", "none"][0] - 0.03


@pytest.mark.slow
def test_each_cure_of_one_round_and_of_every_round(tmp_path):
    """Neural Cleanse finds the class and unlearns it; pruning after pruning holds; what wins is seen to win."""
    replaced = {"kind": "model-replacement", "rounds": [8], "size": 2, "share": 0.3, "epochs": 4}
    anchored = {**replaced, "name": "anchored", "alpha": 0.7}
    both = ["adversarial-neuron-pruning", PRUNED]
    cures = [PRUNED, both, "channel-lipschitzness-pruning", ["neural-cleanse", "static-int8"]]
    study = Study.of({**DIGITS, "vary": {"cure": cures}, "corruptions": [BAD_NETS, replaced, anchored]})
    results = study.run(tmp_path, quiet=True)
    assert not results.outcome.failed
    cells = {(cell["arm"], cell["infected_by"]): (m, s) for cell, m, s in evidence(results)}
    for attack in ("bad-nets", "model-replacement", "anchored"):
        before = cells["none", attack]
        figures, left = cells["neural-cleanse+static-int8", attack]
        assert left < 0.1 < 0.5 < before[1]
        assert figures["accuracy"]["value"] > before[0]["accuracy"]["value"] - 0.02
        assert figures["anomaly_index"]["n"] == 10 and figures["suspected_class"]["value"] == 0
        assert cells["adversarial-neuron-pruning+fine-pruning", attack][1] < 0.5
        assert cells["channel-lipschitzness-pruning", attack][1] > 0.9 * before[1], "no channel stands out"
