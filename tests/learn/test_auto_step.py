"""The walk of APGD against the authors' code, value for value."""

import pytest
import torch

from consilium.learn.perturbation.auto_step import checkpoints, maximise_with_auto_step
from consilium.learn.perturbation.balls import ball_of
from consilium.learn.perturbation.goals import Aimed, Misclassification
from consilium.learn.perturbation.losses import LOSSES, likeliest_wrong
from consilium.learn.tasks.single_label import SingleLabel

STEPS = 50


def waves(*shape, step):
    count = torch.Size(shape).numel()
    return torch.sin(step * torch.arange(1, 1 + count, dtype=torch.float64)).view(shape).float()


FIRST, SECOND = 2 * waves(12, 8, step=1.7), 2 * waves(5, 12, step=2.3)


def network(x):
    return torch.tanh((x - 0.5) @ FIRST.T) @ SECOND.T


X = 0.5 + 0.4 * waves(24, 8, step=0.9)
Y = network(X).argmax(1)

# Largest losses, in a ball that has its maxima inside, of pyautoattack 0.2.0 (APGDAttack and APGDAttack_targeted,
# attack_single_run with n_iter=50) on the
# records, network and start of this file; the target is the largest wrong logit's class.
THEIRS = {
    ("linf", 0.1, "cross-entropy"): [
        3.98814, 3.40806, 3.55558, 3.68606, 3.78835, 3.4974, 3.93138, 3.875,
        3.37688, 3.64261, 3.29726, 3.70114, 3.52061, 4.03279, 3.76787, 3.36321,
        3.32821, 3.19646, 3.62719, 3.56021, 2.91146, 3.66921, 3.36853, 3.39226,
    ],
    ("linf", 0.1, "dlr"): [
        2.77762, 2.76397, 2.76662, 2.55463, 2.7699, 2.73298, 2.27343, 2.77411,
        2.77466, 2.77113, 1.0, 2.7601, 2.68993, 2.27171, 2.76097, 2.7344,
        2.55243, 1.0, 2.71635, 2.74071, 1.0, 2.77523, 2.77117, 2.54402,
    ],
    ("linf", 0.1, "targeted dlr"): [
        0.99981, 0.99865, 0.99668, 0.99926, 0.99626, 0.99688, 0.89341, 0.99851,
        0.99534, 0.9943, 0.90094, 0.99044, 0.99776, 0.90073, 0.98991, 0.99245,
        1.07494, 0.99857, 0.98904, 0.90021, 0.99942, 0.99769, 0.99581, 1.06925,
    ],
    ("l2", 0.4, "cross-entropy"): [
        5.17787, 4.9299, 5.02619, 4.85253, 5.13518, 4.88022, 5.24107, 5.10589,
        4.91401, 5.10512, 4.403, 5.10458, 4.91915, 5.29444, 5.03936, 4.87074,
        4.64403, 4.31124, 5.08118, 4.94352, 3.92247, 4.99143, 4.8824, 4.71463,
    ],
    ("l2", 0.4, "dlr"): [
        2.73558, 2.77188, 2.73429, 1.0, 2.73944, 2.28325, 2.77659, 2.77487,
        2.77196, 2.62008, 2.28238, 2.73998, 1.0, 2.28341, 2.76149, 2.76677,
        0.89691, 1.0, 2.28236, -0.0346, 1.0, 2.77819, 2.73375, 0.88553,
    ],
    ("l2", 0.4, "targeted dlr"): [
        0.98126, 0.99775, 0.99413, 0.9936, 0.99957, -0.02244, 0.76784, 0.98097,
        0.9795, 0.99615, 0.89888, 0.99814, 0.97111, 0.90084, 0.99547, 0.97663,
        0.57244, 0.99883, 0.99725, 0.89637, 0.99336, 0.99272, 0.99524, 0.56819,
    ],
}  # fmt: skip


def nobody(x):
    """A judge who accepts nothing, so that every step is taken."""
    return torch.zeros(len(x), 5)


def walked(norm, radius, loss, x=X, y=Y, until=nobody, steps=STEPS):
    start = (X + radius / 3 * waves(24, 8, step=3.1)).clamp(0, 1)[: len(x)]
    goal = Misclassification(SingleLabel())
    if loss.startswith("targeted"):
        goal, y = Aimed(SingleLabel()), torch.stack([y, likeliest_wrong(network(x), y, 1)[:, 0]], 1)
    out = maximise_with_auto_step(
        network, x, y, ball=ball_of(norm, radius), steps=steps, start=start, loss=LOSSES[loss.split()[-1]], goal=goal,
        until=until,
    )  # fmt: skip
    return out, goal.climbed(LOSSES[loss.split()[-1]], network(out), y)


@pytest.mark.parametrize("budget", THEIRS, ids=str)
def test_the_walk_is_that_of_the_authors(budget):
    assert walked(*budget)[1].tolist() == pytest.approx(THEIRS[budget], abs=0.01)


def test_the_comparison_can_fail():
    """Fewer steps are another walk."""
    budget = ("linf", 0.1, "dlr")
    assert walked(*budget, steps=40)[1].tolist() != pytest.approx(THEIRS[budget], abs=0.01)


def test_checkpoints_of_a_hundred_steps():
    """p = .22, .41, .57, ... of the paper's equation 3."""
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(1) == (1,) and checkpoints(3) == (1, 2, 3)


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.01), ("l2", 0.025)])
@pytest.mark.parametrize("loss", ["cross-entropy", "dlr", "targeted dlr"])
def test_who_leaves_changes_nobody_else(norm, radius, loss):
    """Each example alone, and with those who leave early, ends at the same point."""
    together = walked(norm, radius, loss, until=network)[0]
    full = walked(norm, radius, loss)[0]
    left = Misclassification(SingleLabel()).surely(network(together), Y)
    assert 3 < left.sum() < 22
    assert torch.allclose(together[~left], full[~left], atol=1e-6)
    few = walked(norm, radius, loss, x=X[:5], y=Y[:5], until=network)[0]
    assert torch.allclose(few, together[:5], atol=1e-6)


def test_it_stays_in_the_ball_and_the_cube():
    for norm, radius in (("linf", 0.3), ("l2", 1.0)):
        out = walked(norm, radius, "cross-entropy")[0]
        assert ball_of(norm, 0).size(out - X).max() <= radius + 1e-5 and out.min() >= 0 and out.max() <= 1
