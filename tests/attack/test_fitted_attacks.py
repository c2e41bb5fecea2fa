"""Substitute and AdvGAN: what is fitted on public records works on records that were never seen."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion.adv_gan import AdvGAN
from consilium.attack.evasion.pgd import PGD
from consilium.attack.evasion.substitute import Substitute
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel

ATTACKS = [Substitute(radius=0.2, queries=300, epochs=5), AdvGAN(radius=0.2, steps=150)]


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def public_view(view, digits):
    return replace(view, public=digits[0].select(torch.arange(400)))


class Linear(nn.Module):
    """Two logits of a fixed weight; what is asked is kept; ``labels``: the label alone is answered."""

    def __init__(self, weight, labels=False):
        super().__init__()
        self.weight, self.labels, self.batches = weight, labels, []

    def forward(self, x):
        self.batches.append(len(x))
        score = 20 * (x.flatten(1) - 0.5) @ self.weight
        logits = torch.stack([-score, score], 1)
        return nn.functional.one_hot(logits.argmax(1), 2).float().log() if self.labels else logits


def linear_view(labels=False):
    g = torch.Generator().manual_seed(0)
    module = Linear(torch.tensor([1.0, -1.0, 1.0, -1.0, 0.5, -0.5]), labels)
    x = torch.rand(300, 6, generator=g)
    y = module(x).argmax(1)
    module.batches.clear()
    rows = torch.arange(300)
    targets, public = (Records.of(x[part], y[part]) for part in (rows < 200, rows >= 200))
    return ModelView(2, module, module, targets, task=SingleLabel(), public=public)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.kind())
def test_it_lies_between_nothing_and_the_white_box(public_view, attack):
    clean, fitted, white = (
        run(a, public_view)["robust_accuracy"].value for a in (PGD(radius=1e-9), attack, PGD(radius=0.2))
    )
    assert clean > fitted + 0.1 and fitted >= white - 0.01


@pytest.mark.parametrize("labels", [False, True])
def test_a_substitute_of_a_linear_model_is_that_model(labels):
    """It agrees nearly everywhere, and fools nearly what the corner of the ball would."""
    view = linear_view(labels)
    finding = run(Substitute(radius=0.1, queries=800, seeds=100), view)
    assert finding["agreement"].value > 0.9
    lead = ((view.targets.x - 0.5) @ view.module.weight).abs()
    reach = 0.1 * view.module.weight.abs().sum()
    fooled = ~finding.scores["correct"]
    assert not fooled[lead > reach].any() and fooled[lead < 0.5 * reach].double().mean() > 0.9


@pytest.mark.parametrize("queries", [1, 60, 250])
def test_no_more_labels_are_bought_than_the_budget(queries):
    view = linear_view()
    attack = Substitute(queries=queries, seeds=40, epochs=1)
    attack.prepared(view, torch.Generator().manual_seed(0))
    assert sum(view.module.batches) == queries


def test_fitting_never_looks_at_the_test_set(public_view):
    """Other test records, the same generator: to the bit."""
    other = replace(public_view, targets=public_view.targets.select(torch.arange(20)))
    for attack in ATTACKS:
        one, two = (
            attack.prepared(v, torch.Generator().manual_seed(0)).fitted.state_dict() for v in (public_view, other)
        )
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_it_is_fitted_once_for_all_batches(public_view):
    calls = []

    class Counted(AdvGAN):
        def fit(self, view, public, generator):
            calls.append(1)
            return super().fit(view, public, generator)

    run(Counted(steps=2), public_view)
    assert len(public_view.targets) > 256 and calls == [1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_generator_keeps_its_ball(public_view, norm):
    finding = run(AdvGAN(radius=0.3, norm=norm, steps=3), public_view)
    assert finding[f"mean_{norm}"].high <= 0.3 + 1e-5


def test_a_generator_with_a_target(public_view):
    finding = run(AdvGAN(radius=0.3, steps=150, goal="targeted", target=8), public_view)
    assert finding["success_rate"].value > 0.3


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.kind())
def test_without_public_records_it_is_refused(view, attack):
    with pytest.raises(Refused, match="fitted on public records and there are none") as refusal:
        run(attack, view)
    assert "data.public" in refusal.value.remedy


def test_labels_alone_have_classes():
    with pytest.raises(Refused, match="no meaning for the task regression"):
        Substitute().check_task(Regression(low=0, high=1, tolerance=0.1))


@pytest.mark.parametrize(("attack", "knobs"), [(Substitute, {"queries": 0}), (Substitute, {"jacobian_step": 2.0}),
                                               (Substitute, {"steps": 0}), (AdvGAN, {"steps": 0}),
                                               (AdvGAN, {"realism": -1.0})])  # fmt: skip
def test_a_knob_out_of_range_is_refused_by_name(attack, knobs):
    with pytest.raises(Refused, match="out of range"):
        attack(**knobs)
