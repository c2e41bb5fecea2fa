"""An attack or a defence that hardly does anything is refused, or noted beside the figures by name."""

import json

import pytest

from consilium import Study
from consilium.attack.evasion.fgsm import FGSM
from consilium.attack.evasion.pgd import PGD
from consilium.attack.evasion.transfer import Transfer
from consilium.core.catalogue import ROOMS, find, load_entry
from consilium.core.errors import Refused
from consilium.study.plan.checks.weak_knobs import weak_knobs


@pytest.mark.parametrize("attack", [FGSM, PGD, Transfer])
def test_an_evasion_attack_has_a_radius(attack):
    with pytest.raises(Refused, match=r"0\.0 is out of range"):
        attack(radius=0.0)
    attack(radius=1e-9)


def test_steps_that_stay_near_a_fixed_start_are_refused():
    with pytest.raises(Refused, match=r"20 steps of 1e-12 reach 2e-11 of the radius 0\.05") as caught:
        PGD(radius=0.05, step_size=1e-12, random_start=False)
    assert caught.value.where == "step-size"
    PGD(radius=0.05, steps=5, step_size=0.01, random_start=False)  # reaches it exactly
    PGD(radius=0.05, step_size=1e-12)  # random starts alone: a baseline, and noted


KNOBS = [
    ("pgd", {"radius": 0.05, "step_size": 1e-12}, "reach 4e-10 of the radius"),
    ("transfer", {"radius": 0.05, "step_size": 1e-3, "steps": 3}, "reach 0.06 of the radius"),
    ("adversarial-training", {"radius": 0.05, "step_size": 1e-12}, "little better than the random ones"),
    ("adversarial-training", {"radius": 1e-4}, "less than a quarter of a grey level"),
    ("adversarial-poisoning", {"radius": 1e-4}, "less than a quarter of a grey level"),
    ("fgsm", {"radius": 1e-4}, "less than a quarter of a grey level"),
    ("pgd", {"radius": 1e-4}, "less than a quarter of a grey level"),
    ("adversarial-training", {"radius": 0.05, "share": 1e-9}, "touches next to no record"),
    ("adversarial-poisoning", {"share": 1e-9}, "touches next to no record"),
    ("label-flip", {"share": 1e-9}, "touches next to no record"),
    ("top-k", {"share": 1.0}, "leaves nothing out"),
    ("prune", {"sparsity": 1e-9}, "removes next to no weight"),
    ("norm-bound", {"bound": 1e12}, "none is bounded"),
    ("dp-sgd", {"epsilon": 8.0, "clip": 1e9}, "nothing is clipped"),
    ("dp-sgd", {"epsilon": 8.0, "clip": 1e-9}, "next to nothing of a gradient"),
    ("dp-sgd", {"epsilon": 1e9}, "bounds what an adversary learns by next to nothing"),
    ("dp-sgd", {"noise_multiplier": 1e-9}, "hides next to nothing"),
    ("dp-fed-avg", {"epsilon": 1e9}, "by next to nothing"),
    ("round-answer", {"digits": 15}, "nothing is rounded"),
    ("round-answer", {"digits": None, "top_k": 9}, "top-k = 9 of 2 classes hides no answer"),
    ("lira", {"shadows": 2}, "2 shadows are few"),
    ("rmia", {"shadows": 2}, "2 shadows are few"),
    ("shokri", {"shadows": 2}, "2 shadows are few"),
]


def entry(kind, knobs):
    return load_entry(find(kind, *ROOMS))(**knobs)


@pytest.mark.parametrize(("kind", "knobs", "said"), KNOBS)
def test_a_knob_that_leaves_nothing_is_noted(kind, knobs, said):
    (note,) = weak_knobs([entry(kind, knobs)], 2)
    assert note.startswith(f"{kind}: ") and said in note


ORDINARY = [
    ("pgd", {}), ("pgd", {"radius": 0.03, "steps": 20, "step_size": 0.0015}), ("transfer", {}),
    ("adversarial-training", {"steps": 1}), ("adversarial-training", {"step_size": 0.01}), ("top-k", {}),
    ("fgsm", {"radius": 1 / 255}), ("adversarial-training", {"radius": 0.1, "norm": "l2"}),
    ("adversarial-poisoning", {}),
    ("prune", {}), ("norm-bound", {"bound": 10.0}), ("dp-sgd", {"epsilon": 8.0}), ("dp-sgd", {"noise_multiplier": 1.0}),
    ("round-answer", {}), ("round-answer", {"digits": None, "top_k": 1}), ("lira", {}),
    ("shokri", {}), ("label-flip", {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "knobs"), ORDINARY)
def test_an_ordinary_knob_is_not(kind, knobs):
    assert weak_knobs([entry(kind, knobs)], 2) == ()


def test_the_notes_stand_in_the_evidence(tables, tmp_path):
    tables |= {"vary": {"bound": [{"kind": "norm-bound", "bound": 1e12}]}, "corruptions": []}
    tables["attacks"] = [{"kind": "pgd", "radius": 0.05, "step-size": 1e-12, "steps": 2}]
    folder = Study.of(tables).run(tmp_path, quiet=True).folder
    made = {e["cell"]["arm"]: e for e in (json.loads(p.read_text()) for p in folder.glob("cells/*/evidence.json"))}
    assert any("none is bounded" in note for note in made["norm-bound"]["notes"])
    assert not any("bounded" in note for note in made["none"]["notes"])
    assert all("reach 4e-11 of the radius" in e["findings"]["pgd"]["notes"][0] for e in made.values())
