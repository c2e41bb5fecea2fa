"""Weights and the records that they were trained on: none is held out, and inputs and answers mean the same."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from consilium import Study
from consilium.core.errors import Refused

CLASSES, COLUMNS = ["a", "b"], ["age", "dose"]
RANGES = [["age", 0, 100], ["dose", 0, 10]]
WHOLE = {"public": 0.0, "non-members": 0.0}
BEFORE = {"weights": "out/before", "train": "head"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Coins in an npz, and a table of two columns and a label."""
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    np.savez("coins.npz", x=draws.random((200, 6)).astype("f4"), y=draws.integers(0, 2, 200))
    np.savez("others.npz", x=draws.random((200, 6)).astype("f4"), y=draws.integers(0, 2, 200))
    lines = [f"{draws.integers(1, 99)},{draws.integers(1, 9)},{'ab'[k % 2]}" for k in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["age,dose,ill", *lines]))
    return tmp_path


def study(data, model=None, **more):
    model = {**({} if "kind" in (model or {}) else {"kind": "mlp", "hidden": 4}), **(model or {})}
    federation = {"kind": "fed-avg", "rounds": 1, "lr": 0.1}
    return Study.of({"name": "after", "threads": 1, "data": data, "model": model, "federation": federation, **more})


def coins(path="coins.npz", **more):
    return {"kind": "npz", "path": path, "classes": CLASSES, **more}


def table(**more):
    return {
        "kind": "table",
        "path": "t.csv",
        "label": "ill",
        "classes": [["a", "a"], ["b", "b"]],
        "ranges": RANGES,
        **more,
    }


def run(one):
    return one.run("out", quiet=True, executor="serial")


def trained(data, **more):
    return run(study(data, name="before", **more))


@pytest.mark.parametrize(("seed", "knobs"), [(1, {}), (1, WHOLE)])
def test_records_of_another_seed_are_refused_by_their_number(folder, seed, knobs):
    trained(coins(**knobs), seeds=[seed])
    with pytest.raises(Refused, match=r"trained on \d+ of the records that seed 0 holds out here") as refused:
        study(coins(), BEFORE).plan()
    assert refused.value.where == "model.weights"
    assert "write seeds = [1]" in refused.value.remedy


def test_the_division_of_the_weights_is_taken(folder):
    trained(coins(), seeds=[1])
    plan = study(coins(), BEFORE, seeds=[1], attacks=["loss-threshold"]).plan()
    assert not any("Caution" in note for note in plan.materials.start_notes(1))
    assert plan.cells[0].member_notes == ()


def test_non_members_that_were_trained_on_are_refused_where_membership_is_asked(folder):
    trained(coins(**WHOLE))
    with pytest.raises(Refused, match=r"seed 0, public = 0\.0, non-members = 0\.0"):
        study(coins(), BEFORE, attacks=["loss-threshold"]).plan()


@pytest.mark.parametrize("origin", ["other data", "no recipe"])
def test_unknown_records_are_a_caution_on_accuracy_and_on_membership(folder, origin):
    before = trained(coins("others.npz"))
    weights = BEFORE
    if origin == "no recipe":
        file = next(before.folder.glob("models/*/model.safetensors"))
        weights = {**BEFORE, "weights": str(file.rename(folder / "lone.safetensors"))}
    after = run(study(coins(), weights, attacks=["loss-threshold", {"kind": "fgsm", "radius": 0.05}]))
    (evidence,) = (json.loads(path.read_text()) for path in after.folder.glob("cells/*/evidence.json"))
    assert any(note.startswith("Caution: which records the weights") for note in evidence["notes"])
    assert any("Caution" in note for note in evidence["findings"]["loss-threshold"]["notes"])
    assert not any("Caution" in note for note in evidence["findings"]["fgsm"]["notes"])


MEANINGS = {
    "classes": ({"classes": [["b", "b"], ["a", "a"]]}, r"class 1 is 'b', and 'a'"),
    "ranges": (
        {"ranges": [RANGES[0], ["dose", 0, 20]]},
        r"the range of column 2 'dose' is \[0\.0, 20\.0\], and \[0\.0, 10",
    ),
    "columns": ({}, r"column 1 is 'dose', and 'age'"),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_another_meaning_of_inputs_or_answers_is_refused_by_the_first_difference(folder, name):
    before = trained(table())
    file = next(before.folder.glob("models/*/model.safetensors"))
    changes, message = MEANINGS[name]
    if name == "columns":
        lines = [line.split(",") for line in (folder / "t.csv").read_text().splitlines()]
        (folder / "t.csv").write_text("\n".join(f"{dose},{age},{ill}" for age, dose, ill in lines))
    with pytest.raises(Refused, match=message) as refused:
        study(table(**changes), BEFORE).plan()
    assert refused.value.where == "model.weights"
    stored = {"kind": "file", "path": str(file), "architecture": {"kind": "mlp", "hidden": 4}}
    with pytest.raises(Refused, match=message) as refused:
        Study.of({"name": "judged", "threads": 1, "data": table(**changes), "model": stored}).plan()
    assert refused.value.where == "model.path"


def test_a_head_of_other_classes_is_drawn_anew_though_they_are_as_many(folder):
    """As the head of clothes for shoes: it is trained here, and its rows mean nothing."""
    before = trained(coins())
    other = coins("others.npz", classes=["c", "d"])
    plan = study(other, BEFORE).plan()
    notes = "\n".join(plan.materials.start_notes(0))
    assert "the head 4 is drawn anew: 4.bias was trained for other classes (a, b)" in notes
    theirs = load_file(next(before.folder.glob("models/*/model.safetensors")))
    module = plan.materials.network(0).template
    ours = module.state_dict()
    assert {name for name in ours if not ours[name].equal(theirs[name])} == {"4.weight", "4.bias"}
    body = next(name for name in ours if not name.startswith("4.")).partition(".")[0]
    with pytest.raises(Refused, match="and it does not train"):
        study(other, {**BEFORE, "train": [body]}).plan()
    assert "drawn anew" not in "\n".join(study(coins("others.npz"), BEFORE).plan().materials.start_notes(0))


def test_a_vocabulary_in_another_order_is_refused(folder):
    words = [f"word{letter}" for letter in "abcdefgh"]
    (folder / "w.txt").write_text("\n".join(words))
    rows = [f"{words[k % 8]} {words[(k * 3) % 8]},{'ab'[k % 2]}" for k in range(80)]
    (folder / "t.csv").write_text("\n".join(["text,label", *rows]))
    data = {"kind": "text", "path": "t.csv", "vocabulary": "w.txt", "length": 4}
    trained(data, model={"kind": "gru", "width": 4})
    (folder / "w.txt").write_text("\n".join(words[::-1]))
    with pytest.raises(Refused, match="the vocabulary is"):
        study(data, {"kind": "gru", "width": 4, **BEFORE}).plan()
