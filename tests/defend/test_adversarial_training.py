"""Adversarial training: in the ball, worse than clean, per record, and worth it."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Refused, Unlawful
from consilium.core.random import Stream, scoped
from consilium.defend.training.adversarial_training import AdversarialTraining
from consilium.learn.objectives import TaskLoss
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.linf import Linf
from consilium.learn.perturbation.losses import CrossEntropyLoss
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.tasks.single_label import SingleLabel


def model(seed=0):
    with scoped(Stream(seed)):
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3)).eval().requires_grad_(False)


def inputs(n=64):
    g = Stream(1).generator()
    return torch.rand(n, 1, 4, 4, generator=g), torch.randint(3, (n,), generator=g)


def prepared(defence, x, y, seed=0, predict=None):
    objective = defence.objective(TaskLoss(SingleLabel()))
    return objective.prepare(predict or model(), x, y, Stream(seed).generator())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 5])
def test_examples_stay_in_the_ball_and_raise_the_loss(norm, steps):
    x, y = inputs()
    radius = 0.05 if norm == "linf" else 0.5
    moved = prepared(AdversarialTraining(radius, steps, norm=norm), x, y)["x"]
    delta = (moved - x).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert float(size.max()) <= radius * (1 + 1e-5)
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    worse = F.cross_entropy(model()(moved), y, reduction="none") - F.cross_entropy(model()(x), y, reduction="none")
    assert (worse > 0).float().mean() > 0.95


def test_more_steps_are_worse():
    x, y = inputs()
    losses = [
        float(F.cross_entropy(model()(prepared(AdversarialTraining(0.1, steps), x, y)["x"]), y)) for steps in (1, 20)
    ]
    assert losses[1] > losses[0]


def test_the_step_has_its_published_length():
    assert AdversarialTraining(0.08, steps=1).length() == pytest.approx(0.1)
    assert AdversarialTraining(0.08, steps=10).length() == pytest.approx(0.02)
    assert AdversarialTraining(0.08, steps=10, step_size=0.5).length() == 0.5


def test_the_share_is_an_independent_coin_per_record():
    x, y = inputs(400)
    touched = torch.stack(
        [
            (prepared(AdversarialTraining(0.05, 1, share=0.3), x, y, seed)["x"] != x).flatten(1).any(1)
            for seed in range(30)
        ]
    ).float()
    assert abs(float(touched.mean()) - 0.3) < 4 * (0.21 / 12_000) ** 0.5
    assert float(touched.mean(0).max()) < 0.75  # nobody is always chosen
    assert 0 < float(touched.sum(1).var()) < 4 * 84  # and the number chosen varies, as 400 coins do


def test_what_comes_out_for_a_record_does_not_depend_on_the_others():
    x, y = inputs(8)
    other_x, other_y = x.clone(), y.clone()
    other_x[0], other_y[0] = 1 - x[0], (y[0] + 1) % 3
    defence = AdversarialTraining(0.1, 4, share=0.7)
    one, two = prepared(defence, x, y)["x"], prepared(defence, other_x, other_y)["x"]
    torch.testing.assert_close(one[1:], two[1:], atol=1e-6, rtol=0)


def test_the_weights_get_no_gradient():
    net = model().requires_grad_(True)
    prepared(AdversarialTraining(0.1, 2), *inputs(8), predict=net)
    assert all(p.grad is None for p in net.parameters())


class Relabelling(TaskLoss):
    """An inner objective that prepares something of its own."""

    def prepare(self, predict, x, y, generator):
        return {"x": x, "y": (y + 1) % 3, "extra": y}


def test_it_crafts_against_what_the_inner_objective_wants():
    x, y = inputs()
    batch = (
        AdversarialTraining(0.1, 5).objective(Relabelling(SingleLabel())).prepare(model(), x, y, Stream(0).generator())
    )
    assert torch.equal(batch["y"], (y + 1) % 3)
    assert torch.equal(batch["extra"], y)
    before, after = (F.cross_entropy(model()(z), batch["y"]) for z in (x, batch["x"]))
    assert after > before


def planted(n=400):
    """One strong feature that is right 9 times in 10, and 255 weak ones, always right, that a small ball can turn."""
    g = Stream(3).generator()
    y = torch.randint(2, (n,), generator=g)
    sign = (2 * y - 1).float().view(-1, 1)
    x = 0.5 + 0.05 * sign + 0.02 * (torch.rand(n, 256, generator=g) - 0.5)
    x[:, :1] = 0.5 + 0.3 * sign * (1 - 2 * (torch.rand(n, 1, generator=g) < 0.1).float())
    return x, y


def linear(z, weights):
    return (z - 0.5) @ weights


def trained(objective, x, y):
    weights = torch.zeros(256, 2)
    for step in range(100):
        at = weights.clone().requires_grad_()
        batch = objective.prepare(partial(linear, weights=weights), x, y, Stream(step).generator())
        (g,) = torch.autograd.grad(objective.losses(partial(linear, weights=at), batch).mean(), at)
        weights = weights - g
    return partial(linear, weights=weights)


def test_it_buys_robustness():
    x, y = planted()
    robust = {}
    for name, objective in (
        ("plain", TaskLoss(SingleLabel())),
        ("adversarial", AdversarialTraining(0.08, 3).objective(TaskLoss(SingleLabel()))),
    ):
        predict = trained(objective, x, y)
        worst = maximise(
            predict, x, y, ball=Linf(0.08), steps=10, step_size=0.02, random_start=False,
            generator=Stream(0).generator(), loss=CrossEntropyLoss(), goal=Misclassification(SingleLabel()),
        )  # fmt: skip
        robust[name] = float((predict(worst).argmax(1) == y).float().mean())
    assert robust["plain"] < 0.3
    assert robust["adversarial"] > 0.8


@pytest.mark.parametrize(
    "knobs",
    [{"radius": 0.0}, {"steps": 0}, {"step_size": 0.0}, {"share": 0.0}, {"share": 1.5}, {"radius": float("nan")}],
)
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused, match="out of range"):
        AdversarialTraining(**knobs)


def test_twice_is_refused():
    with pytest.raises(Unlawful, match="twice"):
        AdversarialTraining().objective(AdversarialTraining().objective(TaskLoss(SingleLabel())))
