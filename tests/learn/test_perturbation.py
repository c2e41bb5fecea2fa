"""Balls, losses and goals against closed forms and brute force."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.learn.perturbation.balls import ball_of, size_of
from consilium.learn.perturbation.goals import ConfidenceReduction, Misclassification, SourceToTarget, Targeted
from consilium.learn.perturbation.l0 import L0
from consilium.learn.perturbation.l1 import L1
from consilium.learn.perturbation.l2 import L2
from consilium.learn.perturbation.linf import Linf
from consilium.learn.perturbation.losses import DLR, CrossEntropyLoss, MarginLoss, Minimised
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.tasks.single_label import SingleLabel

NORMS = ("linf", "l2", "l1", "l0")
ORDERS = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def radius_of(norm, value):
    return float(max(1, round(value))) if norm == "l0" else value


@pytest.mark.parametrize("norm", NORMS)
def test_sizes_are_torchs_norms(norm):
    delta = torch.randn(20, 2, 3, 3, generator=generator()).round(decimals=0)
    assert torch.allclose(size_of(delta, norm), torch.linalg.vector_norm(delta.flatten(1), ord=ORDERS[norm], dim=1))


@settings(max_examples=60, deadline=None)
@given(norm=st.sampled_from(NORMS), radius=st.floats(0.05, 3), reach=st.floats(0.1, 5), seed=st.integers(0, 9))
def test_projection_stays_in_the_ball_and_in_the_cube_and_is_idempotent(norm, radius, reach, seed):
    ball = ball_of(norm, radius_of(norm, radius))
    x = torch.rand(6, 1, 3, 3, generator=generator(seed))
    point = x + reach * torch.randn(x.shape, generator=generator(seed + 1))
    once = ball.project(point, x)
    assert ball.size(once - x).max() <= ball.radius + 1e-5 and once.min() >= 0 and once.max() <= 1
    assert torch.allclose(ball.project(once, x), once, atol=1e-6)
    small = x + 0.001 * (0.5 - x)
    assert norm == "l0" or torch.equal(ball_of(norm, 1.0).project(small, x), small)


@pytest.mark.parametrize("norm", NORMS)
def test_no_other_point_of_the_ball_is_nearer(norm):
    """Of many points of the ball, drawn at random and scaled to its rim, none is nearer than the projection."""
    ball = ball_of(norm, 2.0 if norm == "l0" else 0.7)
    delta = torch.randn(8, 5, generator=generator(1))
    nearest = ball.limited(delta)
    others = torch.randn(4000, 1, 5, generator=generator(2)) * torch.rand(4000, 1, 1, generator=generator(3)) * 2
    others = torch.stack([ball.limited(other) for other in others.expand(-1, 8, -1)])
    distances = (others - delta).flatten(2).norm(dim=2)
    assert bool((distances.amin(0) >= (nearest - delta).norm(dim=1) - 1e-6).all())


def test_the_l1_projection_by_hand():
    assert torch.allclose(L1(1.0).limited(torch.tensor([[0.8, -0.6, 0.1]])), torch.tensor([[0.6, -0.4, 0.0]]))


def test_the_l0_projection_is_the_best_choice_of_features():
    """Brute force over all pairs, in the cube: the largest change need not be the most useful one."""
    x = torch.tensor([[0.9, 0.5, 0.2, 0.6]])
    point = torch.tensor([[3.0, 0.1, 0.5, 0.6]])
    choices = []
    for pair in itertools.combinations(range(4), 2):
        candidate = x.clone()
        candidate[0, list(pair)] = point.clamp(0, 1)[0, list(pair)]
        choices.append(candidate)
    best = min(choices, key=lambda candidate: float((candidate - point).norm()))
    assert torch.equal(L0(2).project(point, x), best)


@pytest.mark.parametrize(("ball", "dual"), [
    (Linf(1.0), lambda g: g.abs().sum(1)),
    (L2(1.0), lambda g: g.norm(dim=1)),
    (L1(1.0, share=0.0), lambda g: g.abs().amax(1)),
    (L0(2), lambda g: g.abs().topk(2, dim=1).values.sum(1)),
])  # fmt: skip
def test_no_direction_is_steeper(ball, dual):
    """A step of size one rises by the dual norm of the gradient, the most that is possible."""
    gradient = torch.randn(30, 7, generator=generator())
    assert torch.allclose((gradient * ball.steepest(gradient)).sum(1), dual(gradient))
    assert not ball.steepest(torch.zeros(2, 7)).any()


def test_an_l1_step_moves_a_share_of_the_features():
    step = L1(1.0, share=0.5).steepest(torch.tensor([[4.0, -3.0, 1.0, 0.0]]))
    assert step.tolist() == [[0.5, -0.5, 0.0, 0.0]]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_draws_are_uniform_in_the_ball(norm):
    """The share of the volume within a radius r is r^d, and opposite points are equally likely."""
    ball, x = ball_of(norm, 0.2), torch.full((8000, 3), 0.5)
    delta = ball.draw(x, generator())
    shares = (ball.size(delta) / 0.2) ** 3
    assert (shares.sort().values - torch.linspace(0, 1, 8000)).abs().max() < 0.02
    assert delta.mean(0).abs().max() < 0.005
    assert torch.equal(delta, ball.draw(x, generator())) and not torch.equal(delta, ball.draw(x, generator(1)))


def test_draws_of_l0_change_as_many_features_as_allowed():
    x = torch.full((4000, 4), 0.5)
    point = x + L0(2).draw(x, generator())
    changed = point != x
    assert torch.equal(changed.sum(1), torch.full((4000,), 2)) and point.min() >= 0 and point.max() <= 1
    assert (changed.double().mean(0) - 0.5).abs().max() < 0.04
    assert L0(2).draw(torch.rand(0, 4), generator()).shape == (0, 4)


@pytest.mark.parametrize("radius", [0.5, -1.0, math.nan, math.inf])
def test_a_number_of_features_is_whole(radius):
    with pytest.raises(Refused, match="whole number of features"):
        L0(radius)


LOGITS = torch.tensor([[3.0, 1.0, 2.0, -1.0], [0.0, 5.0, -1.0, 4.0]])
Y, TARGET = torch.tensor([0, 2]), torch.tensor([1, 3])


def test_losses_by_hand():
    probability = LOGITS.softmax(1)
    assert torch.allclose(CrossEntropyLoss().untargeted(LOGITS, Y), -probability[[0, 1], Y].log())
    assert torch.allclose(CrossEntropyLoss().targeted(LOGITS, Y, TARGET), probability[[0, 1], TARGET].log())
    assert MarginLoss().untargeted(LOGITS, Y).tolist() == [-1.0, 6.0]
    assert MarginLoss().targeted(LOGITS, Y, TARGET).tolist() == [-2.0, -1.0]
    assert torch.allclose(DLR().untargeted(LOGITS, Y), torch.tensor([-1 / 2, 6 / 5]))
    assert torch.allclose(DLR().targeted(LOGITS, Y, TARGET), torch.tensor([-2 / (3 - 0), 5 / (5 + 0.5)]))
    easier = Minimised(MarginLoss())
    assert easier.untargeted(LOGITS, Y).tolist() == [1.0, -6.0]
    assert easier.targeted(LOGITS, Y, TARGET).tolist() == [2.0, 1.0]


def test_dlr_is_the_same_at_any_scale_and_needs_three_classes():
    for values in (DLR().untargeted(17 * LOGITS + 3, Y), DLR().untargeted(LOGITS, Y)):
        assert torch.allclose(values, torch.tensor([-0.5, 1.2]))
    with pytest.raises(Refused, match="DLR needs 3 classes and there are 2"):
        DLR().untargeted(LOGITS[:, :2], torch.tensor([0, 1]))
    with pytest.raises(Refused, match="DLR needs 4 classes"):
        DLR().targeted(LOGITS[:, :3], Y, torch.tensor([1, 1]))


def test_goals_by_hand():
    y = torch.tensor([0, 1, 2])
    logits = torch.tensor([[2.0, 0.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 1 + 1e-6]])
    assert Misclassification(SingleLabel()).reached(logits, y).tolist() == [False, True, False]
    assert Misclassification(SingleLabel()).surely(logits, y).tolist() == [False, True, False]
    assert Targeted(0).reached(logits, y).tolist() == [True, True, False]
    assert Targeted(0).applies(y).tolist() == [False, True, True]
    assert Targeted(2).reached(logits, y)[2] and not Targeted(2).surely(logits, y)[2]
    assert SourceToTarget(target=0, source=1).applies(y).tolist() == [False, True, False]
    assert ConfidenceReduction(0.5).reached(logits, y).tolist() == [False, True, True]
    assert not any(goal.surely(torch.full((3, 3), torch.nan), y).any()
                   for goal in (Misclassification(SingleLabel()), Targeted(1), ConfidenceReduction(0.9)))  # fmt: skip
    for wrong in (lambda: SourceToTarget(1, 1), lambda: Targeted(-1), lambda: ConfidenceReduction(0.0)):
        with pytest.raises(Refused, match="out of range"):
            wrong()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", [CrossEntropyLoss(), MarginLoss(), DLR()])
def test_a_targeted_walk_ends_at_its_target(norm, loss):
    """A linear model of four classes; the untargeted walk of the same ball ends elsewhere for some records."""
    weight = torch.randn(4, 12, generator=generator(5))
    x = torch.rand(40, 12, generator=generator(6))

    def predict(z):
        return (z - 0.5) @ weight.T

    y, ball = predict(x).argmax(1), ball_of(norm, {"linf": 0.6, "l2": 2.0, "l1": 6.0, "l0": 8.0}[norm])
    knobs = {"ball": ball, "steps": 40, "step_size": ball.step_size(40) if norm != "l0" else 0.2}
    goal = Targeted(3)
    out = maximise(predict, x, y, loss=loss, goal=goal, until=predict, generator=generator(), **knobs)
    rate = goal.reached(predict(out), y)[goal.applies(y)].double().mean()
    away = maximise(
        predict, x, y, loss=loss, goal=Misclassification(SingleLabel()), until=predict, generator=generator(), **knobs
    )
    assert rate > 0.9 > goal.reached(predict(away), y)[goal.applies(y)].double().mean()
    assert ball.size(out - x).max() <= ball.radius + 1e-5


def test_an_easier_input_is_found_too():
    weight = torch.randn(3, 6, generator=generator(1))
    x, y = torch.rand(20, 6, generator=generator(2)), torch.randint(3, (20,), generator=generator(3))

    def predict(z):
        return z @ weight.T

    easy = maximise(
        predict, x, y, ball=Linf(0.1), steps=5, step_size=0.05, generator=generator(), random_start=False,
        loss=Minimised(CrossEntropyLoss()), goal=Misclassification(SingleLabel()),
    )  # fmt: skip
    loss = CrossEntropyLoss().untargeted
    assert bool((loss(predict(easy), y) < loss(predict(x), y)).all())
