"""An axis of models: arms of different architectures and trained parts, side by side, with their attacks."""

import json

import pytest
from safetensors.torch import load_file

import consilium
from consilium import Study
from consilium.core.errors import Refused
from consilium.study.spec.arms import by_model, models

HEAD = {"train": "head", "name": "head"}


def arms_of(tables, choices, **more):
    return Study.of({**tables, "vary": {"model": choices}, "attacks": [], "corruptions": [], **more}).plan().arms


def test_the_first_arm_keeps_the_studys_own_model_under_its_kind(tables):
    arms = arms_of(tables, [HEAD, {"train": {"lora": 2}}, {"kind": "logistic"}])
    assert [arm.name for arm in arms] == ["mlp", "head", "mlp(lora=2)", "logistic"]
    several = arms_of(tables, [{"train": {"lora": 2}}, {"train": ["4"]}])
    assert [arm.name for arm in several][1:] == ["mlp(lora=2)", "mlp(train=['4'])"]


def test_a_choice_without_a_kind_has_the_rest_of_the_studys_model(tables):
    spec = Study.of({**tables, "vary": {"model": [HEAD]}, "attacks": [], "corruptions": []}).plan().spec
    own, head = models(spec).values()
    assert own.architecture == head.architecture
    assert head.fine_tuning.configuration() == {"train": "head"}
    assert [len(group) for group in by_model(spec, arms_of(tables, [HEAD]))] == [1, 1]


def test_arms_of_different_models_are_trained_attacked_and_loaded(tables, tmp_path):
    """A transfer attack crafts on another architecture; what each arm trains is its own."""
    tables["attacks"] = [{"kind": "transfer", "radius": 0.05, "from": {"model": "logistic"}}]
    tables |= {
        "corruptions": [],
        "vary": {
            "model": [HEAD, {"kind": "logistic"}],
            "privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}],
        },
    }
    results = Study.of(tables).run(tmp_path, quiet=True)
    found = [json.loads(path.read_text()) for path in (results.folder / "cells").glob("*/evidence.json")]
    assert len(found) == 6
    names = {}
    for evidence in found:
        assert evidence["status"] == "ok", evidence["error"]
        assert evidence["findings"]["transfer"]["status"] == "ok"
        stored = load_file(results.folder / "models" / evidence["model"] / "model.safetensors")
        names[evidence["cell"]["arm"]] = set(stored)
        assert evidence["resolved"]["model"]["model"]["kind"] == (
            "logistic" if "logistic" in evidence["cell"]["arm"] else "mlp"
        )
        model = consilium.load(results.folder / "cells" / evidence["cell"]["digest"])
        assert set(model.state_dict()) == set(stored)
    assert names["mlp"] == names["head"] != names["logistic"]
    again = Study.of(tables).run(tmp_path, quiet=True)
    assert again.outcome.trained == 0


def test_an_arm_has_the_stages_of_a_study_of_its_model_alone(tables):
    """So what one study has trained, another need not train again."""
    tables |= {"attacks": [], "corruptions": [], "vary": {}}
    alone = Study.of({**tables, "model": {**tables["model"], "train": "head"}}).plan()
    both = Study.of({**tables, "vary": {"model": [HEAD]}}).plan()
    assert set(alone.trainings) | set(Study.of(tables).plan().trainings) == set(both.trainings)


WRONG = {
    "two axes": ({"model": [HEAD], "size": [{"kind": "logistic"}]}, "one axis of models"),
    "with a defence": ({"model": [HEAD, {"kind": "static-int8"}]}, "an axis is of models or of defences"),
    "the own one, renamed": ({"model": [{"kind": "mlp", "hidden": 16, "name": "mine"}]}, "the study's own model"),
    "a list": ({"model": [[{"kind": "mlp", "hidden": 8}, {"kind": "static-int8"}]]}, "a choice of its own"),
    "a trained one": (
        {"model": [{"kind": "file", "path": "m.safetensors", "architecture": {"kind": "mlp"}}]}, "is a trained model",
    ),
    "a knob it has not": ({"model": [{"kind": "logistic", "hidden": 3}]}, "hidden"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_axis_of_models_is_refused(tables, name):
    vary, message = WRONG[name]
    with pytest.raises(Refused, match=message) as refused:
        Study.of({**tables, "vary": vary, "attacks": [], "corruptions": []})
    assert refused.value.where.startswith("vary.")


def test_a_model_that_cannot_read_the_data_is_refused_with_its_arm(tables):
    with pytest.raises(Refused, match="needs images"):
        arms_of(tables, [{"kind": "cnn"}])


def test_a_study_of_a_trained_model_varies_no_model(tables):
    tables["model"] = {"kind": "file", "path": "m.safetensors", "architecture": {"kind": "mlp"}}
    tables.pop("federation")
    with pytest.raises(Refused, match="a study of a trained model is of one model"):
        Study.of({**tables, "vary": {"model": [{"kind": "logistic"}]}, "attacks": [], "corruptions": []})
