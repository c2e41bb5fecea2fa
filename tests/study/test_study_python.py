"""The Python form is the same objects: the same digests, the same refusals."""

from dataclasses import fields

import numpy as np
import pytest

from consilium import Study
from consilium.attack.evasion.pgd import PGD
from consilium.attack.membership.loss_threshold import LossThreshold
from consilium.attack.poisoning.label_flip import LabelFlip
from consilium.core.errors import Refused
from consilium.data.sources.breast_cancer import BreastCancer
from consilium.defend.answer.round_answer import RoundAnswer
from consilium.defend.model.static_int8 import StaticInt8
from consilium.defend.training.adversarial_training import AdversarialTraining
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.models.mlp import MLP
from consilium.study.spec.parse import parse
from consilium.study.spec.spec import Spec, StudyHead

FILE = """
name = "form"
data = { kind = "breast-cancer", sites = 3 }
model = { kind = "mlp", hidden = 8 }
federation = { kind = "fed-avg", rounds = 2, batch = 16 }
[vary]
privacy = [{ kind = "dp-sgd", noise-multiplier = 1.5, delta = 1e-3 }]
robustness = [["adversarial-training", { kind = "static-int8" }]]
[[attacks]]
kind = "pgd"
radius = 0.1
[[attacks]]
kind = "loss-threshold"
[[corruptions]]
kind = "label-flip"
share = 0.5
"""


def written(**changes):
    knobs = {
        "name": "form",
        "data": {"kind": "breast-cancer", "sites": 3},
        "model": MLP(hidden=8),
        "federation": {"kind": "fed-avg", "rounds": 2, "batch": 16},
        "vary": {
            "privacy": [DPSGD(noise_multiplier=1.5, delta=1e-3)],
            "robustness": [[AdversarialTraining(), StaticInt8()]],
        },
        "attacks": (PGD(radius=0.1), LossThreshold()),
        "corruptions": [LabelFlip(share=0.5)],
    }
    return Study(**{**knobs, **changes})


@pytest.fixture
def file(tmp_path):
    (tmp_path / "form.toml").write_text(FILE)
    return Study.read(tmp_path / "form.toml")


def test_it_plans_the_same_digests(file):
    one, other = file.plan(), written().plan()
    assert [c.digest for c in one.cells] == [c.digest for c in other.cells]
    assert one.trainings.keys() == other.trainings.keys() and len(one.trainings) == 8
    assert [(a.name, a.configuration()) for a in one.spec.attacks] == [
        (a.name, a.configuration()) for a in other.spec.attacks
    ]
    assert [a.name for a in one.arms] == [a.name for a in other.arms]


def test_its_tables_are_a_study_file_that_says_the_same(as_toml, tmp_path):
    (tmp_path / "again.toml").write_text(as_toml(written().table()))
    again = Study.read(tmp_path / "again.toml")
    assert [c.digest for c in again.plan().cells] == [c.digest for c in written().plan().cells]


def test_a_choice_may_be_a_list(file):
    arms = {arm.name: arm for arm in file.plan().arms}
    assert set(arms) == {
        "none",
        "dp-sgd",
        "adversarial-training+static-int8",
        "dp-sgd + adversarial-training+static-int8",
    }
    both = arms["adversarial-training+static-int8"]
    assert [d.kind() for d in both.defences] == ["adversarial-training", "static-int8"]
    assert [d.kind() for d in both.training] == ["adversarial-training"]


def test_the_source_may_be_an_entry_or_a_word():
    wanted = [c.digest for c in written(data={"kind": "breast-cancer"}, corruptions=()).plan().cells]
    for data in ("breast-cancer", BreastCancer()):
        assert [c.digest for c in written(data=data, corruptions=()).plan().cells] == wanted


def test_a_none_that_is_no_default_is_kept():
    plan = written(vary={"answer": [RoundAnswer(digits=None, top_k=1)]}).plan()
    assert plan.arms[1].answer == (RoundAnswer(digits=None, top_k=1),)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seeds": 3}, "seeds: 3 is not a list"),
        ({"seeds": [np.int32(0)]}, r"seeds\[0\]: a int32 is no value of a study"),
        ({"options": {"device": "gpu"}}, "device: 'gpu' is out of range"),
        ({"options": {"treads": 1}}, "treads: a study has no 'treads'. Did you mean 'threads'"),
        ({"attacks": [DPSGD(epsilon=1.0)]}, r"attacks\[0\].kind: unknown .* kind 'dp-sgd'"),
        ({"vary": {"x": [PGD()]}}, r"vary.x\[0\].kind: unknown .* kind 'pgd'"),
        ({"data": 3}, "data: expected a table, got 3"),
        ({"vary": [1]}, "vary: expected a table"),
    ],
)
def test_what_is_wrong_is_refused_as_in_a_file(changes, line):
    with pytest.raises(Refused, match=line):
        written(**changes).plan()


def test_results_tell_where_the_evidence_lies(tmp_path, capsys):
    results = Study(
        name="short", data="breast-cancer", model="logistic", federation={"kind": "fed-sgd", "rounds": 1}
    ).run(tmp_path, quiet=True)
    assert results.folder == tmp_path / "short" and results.outcome.trained == 1
    assert (results.folder / "cells" / results.plan.cells[0].digest / "evidence.json").is_file()
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_a_default_stands_once():
    """What a study may leave out is said by `StudyHead` alone; what was read, and `Study`, take it from there."""
    knobs = {f.name for f in fields(StudyHead)}
    assert not knobs & Spec.__annotations__.keys()
    spec = parse({"name": "defaults", "data": "digits", "model": "logistic"})
    assert all(getattr(spec, f.name) == f.default for f in fields(StudyHead) if f.name != "name")
    assert Study(name="defaults", data="digits", model="logistic").seeds == StudyHead.seeds
