"""Studies that train part of a model: what starts, trains, is sent and is released, and what is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import consilium
from consilium import Study
from consilium.core.errors import Refused

HEAD = 16 * 2 + 2
BODY = 30 * 16 + 16
DP = {"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}

USERS = """
import torch
from torch import nn

class Backbone(nn.Module):
    def __init__(self, freeze=True, norm="batch"):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(30, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5))
        self.body[1].running_mean.fill_(0.1)
        self.head = nn.Linear(16, 2)
        self.body.requires_grad_(not freeze)

    def forward(self, x):
        return self.head(self.body(x))

def all_frozen():
    return Backbone().requires_grad_(False)

def weights():
    return torch.load if False else {name: torch.full_like(t, 0.01) for name, t in nn.Sequential(
        nn.Identity(), nn.Identity(), nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2)).state_dict().items()}

def broken():
    raise RuntimeError("no network here")
"""


@pytest.fixture
def study(tables, tmp_path, monkeypatch):
    """A small study of one arm, in a folder of its own, with the user's file beside it."""
    (tmp_path / "fine_nets.py").write_text(USERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("attacks", "corruptions", "vary"):
        tables.pop(name, None)
    return lambda model=None, **more: Study.of({**tables, "model": {**tables["model"], **(model or {})}, **more})


def run(study, **more):
    return study.run("out", quiet=True, executor="serial", **more)


def cells(results):
    """Evidence by arm."""
    found = [json.loads(path.read_text()) for path in (results.folder / "cells").glob("*/evidence.json")]
    return {evidence["cell"]["arm"]: evidence for evidence in found}


def artefact(results, arm):
    return load_file(results.folder / "models" / cells(results)[arm]["model"] / "model.safetensors")


def sent(results, training="*"):
    """Bytes that the three sites send in each round."""
    path = next(results.folder.glob(f"trainings/{training}/rounds.jsonl"))
    (sizes,) = {json.loads(line)["bytes_up"] for line in path.read_text().splitlines()}
    return sizes


def of_user(study, name, vary=None, **model):
    """The same study of a module in the user's file."""
    knobs = {"kind": "module", "path": f"fine_nets:{name}", "allow-code": True, **model}
    return Study.of({**study(vary=vary or {}).table(), "model": knobs})


@pytest.fixture
def pretrained(study):
    """A released model to start from."""
    return run(study(name="pretrained"))


def test_only_the_head_moves_is_sent_and_is_stored_in_checkpoints(study, pretrained):
    results = run(study({"weights": "out/pretrained", "train": "head"}, vary={"privacy": [DP]}))
    before = artefact(pretrained, "none")
    for arm in ("none", "dp-sgd"):
        after = artefact(results, arm)
        assert torch.equal(after["2.weight"], before["2.weight"])
        assert torch.equal(after["2.bias"], before["2.bias"])
        assert not torch.equal(after["4.weight"], before["4.weight"])
    for folder in (results.folder / "trainings").iterdir():
        tensors = load_file(folder / "checkpoint.safetensors")
        assert max(t.numel() for t in tensors.values()) == HEAD
        less = sent(pretrained) - sent(results, folder.name)
        assert 0 <= less - 4 * BODY * 3 < 64  # a shorter number of bytes is written with fewer digits


def test_the_plan_and_the_evidence_say_what_trains_and_where_it_starts(study, pretrained):
    results = run(study({"weights": "out/pretrained", "train": "head"}))
    notes = "\n".join(cells(results)["none"]["notes"])
    assert f"trains {HEAD} of {HEAD + BODY} parameters" in notes
    assert "the model starts from out/pretrained/models/" in notes
    assert "does not cover the records that these weights were trained on" in notes
    assert "drawn anew" not in notes


def test_the_noise_has_the_dimension_of_what_trains(study, pretrained):
    """The same claim as for the whole model, and a shorter noise: the budget buys more of a signal."""
    arms = study({"weights": "out/pretrained", "train": "head"}, vary={"privacy": [DP]}).plan()
    whole = study({"weights": "out/pretrained"}, vary={"privacy": [DP]}).plan()
    claims = [[claim.epsilon for one in plan.claims.values() for claim in one] for plan in (arms, whole)]
    assert claims[0] == claims[1]
    assert arms.materials.network(0).size == HEAD
    assert whole.materials.network(0).size == HEAD + BODY


def test_a_private_head_is_that_of_a_loop_by_hand(study, pretrained):
    """Full batches, next to no noise: clipped softmax regression on features of the stored network, to 1e-6."""
    quiet = {"kind": "dp-sgd", "noise-multiplier": 1e-6, "delta": 1e-3, "clip": 0.3}
    federation = {"kind": "fed-avg", "rounds": 2, "local-epochs": 3, "batch": 0, "lr": 0.5}
    data = {"kind": "breast-cancer", "sites": 1}
    whole = study(
        {"weights": "out/pretrained", "train": "head"},
        vary={"privacy": [quiet]},
        federation=federation,
        data=data,
        **{"max-epsilon": 1e300},
    )
    plan = whole.plan()
    start = artefact(pretrained, "none")
    records = plan.materials.consortium(0).sites[0].records.train
    with torch.no_grad():
        features = ((records.x - 0.5) * 2 @ start["2.weight"].T + start["2.bias"]).relu()
    w, b = start["4.weight"].clone(), start["4.bias"].clone()
    for _ in range(6):
        p = (features @ w.T + b).softmax(1)
        error = p - nn.functional.one_hot(records.y, 2)
        norms = (error.square().sum(1) * (features.square().sum(1) + 1)).sqrt()
        factors = (0.3 / norms).clamp(max=1)[:, None] * error
        w, b = w - 0.5 * factors.T @ features / len(records), b - 0.5 * factors.sum(0) / len(records)
    after = artefact(run(whole), "dp-sgd")
    torch.testing.assert_close(after["4.weight"], w, rtol=0, atol=1e-5)
    torch.testing.assert_close(after["4.bias"], b, rtol=0, atol=1e-5)
    assert float((w - start["4.weight"]).abs().max()) > 0.01


@pytest.mark.parametrize("train", ["head", {"lora": 2}, ["4", "2.bias"], "norm"], ids=str)
def test_int8_pruning_and_load_work_on_the_whole_model(study, pretrained, train):
    """A stored model, read back without its weights file, answers as it was judged."""
    compression = {"compression": [{"kind": "static-int8"}, {"kind": "prune", "sparsity": 0.5}]}
    if train == "norm":
        results = run(of_user(study, "Backbone", vary=compression, train=train, arguments={"freeze": False}))
    else:
        results = run(study({"weights": "out/pretrained", "train": train}, vary=compression, name="parts"))
    for evidence in cells(results).values():
        assert evidence["status"] == "ok", evidence["error"]
        cell = results.folder / "cells" / evidence["cell"]["digest"]
        test = consilium.test_set(cell)
        answers = consilium.load(cell, allow_code=True)(test.x).argmax(1)
        accuracy = next(m["value"] for m in evidence["utility"] if m["name"] == "accuracy")
        assert float((answers == test.y).float().mean()) == pytest.approx(accuracy)


def test_the_same_study_without_the_keys_has_the_same_stages(study):
    """As it was before there were such keys; and each value of them makes a training of its own."""
    plain, spelled = study().plan(), study({"train": "all"}).plan()
    assert list(plain.trainings) == list(spelled.trainings)
    recipe = next(iter(plain.trainings.values())).recipe
    assert recipe["model"] == {"kind": "mlp", "hidden": 16, "layers": 1}
    others = [next(iter(study({"train": train}).plan().trainings)) for train in ("head", ["2"], {"lora": 2})]
    assert len({*plain.trainings, *others}) == 4


# --- a user's own module --------------------------------------------------------------------------------------------


def test_a_frozen_backbone_of_a_users_own_is_a_constant(study):
    """With BatchNorm in it, under DP and in int8: the account of a new user ended here."""
    results = run(of_user(study, "Backbone", vary={"privacy": [DP], "compression": [{"kind": "static-int8"}]}))
    found = cells(results)
    assert {evidence["status"] for evidence in found.values()} == {"ok"}
    start = results.plan.materials.network(0).constants
    for arm in ("none", "dp-sgd"):
        after = artefact(results, arm)
        assert set(start) == {name for name in after if name.startswith("body.")}
        assert all(torch.equal(after[name], tensor) for name, tensor in start.items())
    assert any(f"trains {HEAD} of" in note for note in found["none"]["notes"])


def test_batch_norm_that_trains_is_still_refused_under_dp(study):
    unfrozen = of_user(study, "Backbone", vary={"privacy": [DP]}).table()
    unfrozen["model"]["arguments"] = {"freeze": False}
    with pytest.raises(Refused, match="mixes the examples of a batch") as refused:
        Study.of(unfrozen).plan()
    assert 'train = "head"' in str(refused.value)
    Study.of({**unfrozen, "model": {**unfrozen["model"], "train": "head"}}).plan()


def test_a_model_with_nothing_to_train_is_refused(study):
    with pytest.raises(Refused, match="every parameter of the model is frozen"):
        of_user(study, "all_frozen").plan()


# --- weights --------------------------------------------------------------------------------------------------------


def stored(pretrained, **changes):
    tensors = {**artefact(pretrained, "none"), **changes}
    save_file({name: t for name, t in tensors.items() if t is not None}, "weights.safetensors")
    return "weights.safetensors"


WRONG = {
    "missing": ({"2.bias": None}, r"lacks 2\.bias"),
    "too many": ({"9.weight": torch.zeros(2)}, r"has 9\.weight too many"),
    "another shape": (
        {"2.weight": torch.zeros(16, 29)},
        r"2\.weight has shape \(16, 29\) in the weights and \(16, 30\)",
    ),
    "integers": ({"2.bias": torch.zeros(16, dtype=torch.int8)}, r"2\.bias is int8"),
    "nan": ({"2.bias": torch.full((16,), torch.nan)}, r"2\.bias is not finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_weights_that_do_not_fit_are_refused_by_name(study, pretrained, name):
    changes, message = WRONG[name]
    with pytest.raises(Refused, match=message) as refused:
        study({"weights": stored(pretrained, **changes), "train": "head"}).plan()
    assert refused.value.where == "model.weights"


@pytest.mark.parametrize(
    "changes", [{"4.weight": torch.zeros(7, 16), "4.bias": torch.zeros(7)}, {"4.weight": None, "4.bias": None}]
)
@pytest.mark.parametrize("train", ["all", "head", {"lora": 2}, ["4"]], ids=str)
def test_a_head_of_other_classes_is_drawn_anew_and_named(study, pretrained, changes, train):
    plan = study({"weights": stored(pretrained, **changes), "train": train}).plan()
    notes = plan.materials.start_notes(0)
    assert any("the head 4 is drawn anew" in note and "4.weight" in note for note in notes)
    fresh = study().plan().materials.network(0).module_at(*study().plan().materials.network(0).start())
    released = plan.materials.network(0).module_at(*plan.materials.network(0).start())
    assert torch.equal(released[4].weight, fresh[4].weight)
    assert torch.equal(released[2].weight, artefact(pretrained, "none")["2.weight"])


def test_a_head_that_is_missing_must_train(study, pretrained):
    with pytest.raises(Refused, match=r"do not fit 4\.bias, and it does not train"):
        study({"weights": stored(pretrained, **{"4.weight": None, "4.bias": None}), "train": ["2"]}).plan()


def test_weights_may_be_a_file_a_cell_a_study_or_a_function(study, pretrained):
    digest = cells(pretrained)["none"]["cell"]["digest"]
    file = f"out/pretrained/models/{cells(pretrained)['none']['model']}/model.safetensors"
    places = ["out/pretrained", f"out/pretrained/cells/{digest}", file]
    marks = {study({"weights": place, "train": "head"}).plan().materials.marks(0) for place in places}
    assert len(marks) == 1
    plan = study({"weights": "fine_nets:weights", "allow-code": True, "train": "head"}).plan()
    assert float(plan.materials.network(0).constants["2.weight"].max()) == pytest.approx(0.01)


REFUSED = {
    "no folder": ({"weights": "nowhere.safetensors"}, "nowhere.safetensors"),
    "code": ({"weights": "fine_nets:weights"}, "would run code"),
    "a function that fails": ({"weights": "fine_nets:broken", "allow-code": True}, "RuntimeError: no network here"),
    "no function": ({"weights": "fine_nets:nothing", "allow-code": True}, "cannot import"),
    "no weights": ({"weights": 3}, "3 names no weights"),
    "no word": ({"train": "hed"}, "'hed' says not what trains"),
    "no layer": ({"train": ["fc"]}, "the model has no layer 'fc'"),
    "no norm": ({"train": "norm"}, "no normalisation layer"),
    "no rank": ({"train": {"lora": "8"}}, "'8' is no rank"),
    "rank 0": ({"train": {"lora": 0}}, "0 is out of range"),
    "a knob too many": ({"train": {"lora": 8, "beta": 2}}, "train has no knob 'beta'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(study, name):
    model, message = REFUSED[name]
    with pytest.raises(Refused, match=message) as refused:
        study(model).plan()
    assert "\n" not in str(refused.value)
    assert refused.value.where.startswith("model")


def test_a_folder_of_several_models_is_refused(study, pretrained):
    run(study(name="pretrained", seeds=[0, 1]))
    with pytest.raises(Refused, match="holds 2 released models"):
        study({"weights": "out/pretrained"}).plan()


def test_a_model_that_was_changed_since_is_refused(study, pretrained):
    path = next(pretrained.folder.glob("models/*/model.safetensors"))
    save_file({name: t + 1 for name, t in load_file(path).items()}, path)
    with pytest.raises(Refused, match="is not the model that was stored there"):
        study({"weights": "out/pretrained"}).plan()


def test_an_existing_model_is_not_trained(tables):
    tables["model"] = {"kind": "file", "path": "m.safetensors", "architecture": {"kind": "mlp"}, "train": "head"}
    tables.pop("federation")
    with pytest.raises(Refused, match="attacked and measured, not trained"):
        Study.of(tables)
