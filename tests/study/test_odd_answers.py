"""Answer defences and modules from elsewhere whose answers are no figures' ground: the cell fails by name."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from consilium.core.defence import AnswerDefence
from consilium.core.errors import Failed, Refused
from consilium.core.merge import Cohort
from consilium.core.random import Stream
from consilium.core.records import Consortium, Pools, Records, Site
from consilium.defend.merge.median import Median
from consilium.learn.tasks.single_label import SingleLabel
from consilium.study.evaluate.evaluate import judge
from consilium.study.evaluate.release import Answering, Released


@dataclass(frozen=True)
class Odd(AnswerDefence):
    how: str = ""
    calls: list = field(default_factory=list)

    def answer(self, probabilities):
        if self.how == "random":
            return torch.rand_like(probabilities)
        if self.how == "batch":
            return probabilities / probabilities.max()
        if self.how == "nan":
            return probabilities * float("nan")
        return probabilities

    def surrogate(self, before):
        return before


def consortium():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(60, 4, generator=g)
    records = Records.of(x, (x[:, 0] > 0.5).long())
    site = Site("a", Pools(records, records, records))
    return Consortium("toy", (site,), records, records, ("no", "yes"), SingleLabel(), (4,), "made here", True)


def judged(how, folder):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 2)).eval()
    model = Released(Answering(plain, [Odd(how)]), plain, plain, 1)
    return judge(model, consortium(), Stream(0), folder)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("random", "answer the same records otherwise when they are asked again"),
        ("batch", "an answer of the answer defences depends on the other records of its batch"),
        ("nan", "make NaN of answers that the model has"),
    ],
)
def test_an_answer_defence_is_held_to_what_a_model_is(how, reason, tmp_path):
    with pytest.raises(Failed, match=reason):
        judged(how, tmp_path)


def test_a_sound_one_is_judged(tmp_path):
    assert judged("", tmp_path).utility[0].name == "accuracy"


ROOT = """
import torch
from torch import nn


class Root(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        z = self.layer(x.flatten(1))
        return z + (torch.sqrt(x.flatten(1).min(1, keepdim=True).values * z.abs()) if x.min() < 2 else 0)
"""


def test_a_model_without_finite_gradients_on_public_records_is_refused_under_dp(tmp_path, monkeypatch):
    from consilium import Study

    (tmp_path / "odd_root.py").write_text(ROOT)
    monkeypatch.syspath_prepend(tmp_path)
    study = {
        "name": "root",
        "data": {"kind": "digits", "sites": 2, "public": 0.1},
        "model": {"kind": "module", "path": "odd_root:Root", "allow-code": True},
        "federation": {"kind": "fed-avg", "rounds": 1},
        "vary": {"privacy": [{"kind": "dp-sgd", "epsilon": 3.0, "delta": 1e-3}]},
    }
    with pytest.raises(Refused, match="public records have a gradient that is not finite"):
        Study.of(study).plan()


@pytest.mark.parametrize(("sites", "weak"), [(1, True), (2, True), (3, False)])
def test_the_median_of_two_is_said_to_be_the_mean(sites, weak):
    assert bool(Median().weakness(Cohort(sites, 3))) is weak
    assert bool(Median().weakness(Cohort(4, 3, rate=0.5))) is True
