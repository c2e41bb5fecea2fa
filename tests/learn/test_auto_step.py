"""The walks of APGD against the authors' code, value for value, and the nearest point of the l1 ball and the box."""

import pytest
import torch

from consilium.learn.perturbation.auto_step import checkpoints, maximise_with_auto_step
from consilium.learn.perturbation.balls import ball_of
from consilium.learn.perturbation.goals import Aimed, Misclassification
from consilium.learn.perturbation.l1_box import L1Box, sparse_signs
from consilium.learn.perturbation.losses import LOSSES, likeliest_wrong
from consilium.learn.perturbation.sparse_auto_step import maximise_in_l1
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
# The same in l1 (decr_eps_pgd with epss=[1.8, 1.2, .6], iters=[15, 15, 20]; its noise is start - x).
THEIRS_IN_L1 = {
    "cross-entropy": [
        4.38953, 3.97723, 4.15995, 4.03905, 4.35424, 4.13078, 4.5384, 4.29467,
        3.95552, 4.23879, 3.52433, 4.27215, 4.16061, 4.62274, 4.22117, 3.94065,
        3.79421, 3.43361, 4.21885, 4.20595, 3.14463, 4.13546, 3.94918, 3.81992,
    ],
    "dlr": [
        2.75198, 1.0, 2.6467, 1.0, 2.7559, 2.18202, 2.14627, 2.6893,
        1.96551, 1.98019, 2.15118, 2.47573, 2.76153, 2.15189, 1.0, 1.0,
        2.51923, 1.0, 2.46908, 1.0, 1.0, 2.75897, 1.0, 2.6629,
    ],
    "targeted dlr": [
        0.99332, 0.99333, 0.99905, 0.99767, 0.97347, 0.98487, 0.89359, 0.99271,
        0.98593, 0.97585, 0.89732, 0.97392, 0.98801, 0.89246, 0.99627, 0.97697,
        1.09533, 0.99821, 0.98591, 0.87609, 0.99561, 0.9898, 0.99903, 1.09326,
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
    kept = {"steps": steps, "loss": LOSSES[loss.split()[-1]], "goal": goal, "until": until}
    if norm == "l1":
        start = (X + 0.1 * waves(24, 8, step=3.1))[: len(x)]
        out = maximise_in_l1(network, x, y, radius=radius, start=start, **kept)
    else:
        out = maximise_with_auto_step(network, x, y, ball=ball_of(norm, radius), start=start, **kept)
    return out, goal.climbed(LOSSES[loss.split()[-1]], network(out), y)


@pytest.mark.parametrize("budget", THEIRS, ids=str)
def test_the_walk_is_that_of_the_authors(budget):
    assert walked(*budget)[1].tolist() == pytest.approx(THEIRS[budget], abs=0.01)


@pytest.mark.parametrize("loss", THEIRS_IN_L1)
def test_the_sparse_walk_is_that_of_the_authors(loss):
    """To .02: a step on a tie of two derivatives may go either way."""
    assert walked("l1", 0.6, loss)[1].tolist() == pytest.approx(THEIRS_IN_L1[loss], abs=0.02)
    assert walked("l1", 0.6, loss, steps=30)[1].tolist() != pytest.approx(THEIRS_IN_L1[loss], abs=0.02)


def test_the_nearest_point_of_ball_and_box():
    """No move that keeps the sum comes nearer: changes between their ends are lowered alike, and all is spent."""
    g = torch.Generator().manual_seed(0)
    x, ball = torch.rand(200, 9, generator=g), L1Box(0.8)
    point = x + 0.5 * torch.randn(200, 9, generator=g)
    nearest = ball.project(point, x)
    total, cut = (nearest - x).abs().sum(1), (point.clamp(0, 1) - x).abs().sum(1)
    assert total.max() <= 0.8 + 1e-6 and nearest.min() >= 0 and nearest.max() <= 1
    assert torch.allclose(total, cut.clamp_max(0.8), atol=1e-5)
    lowered, moved = (point - x).abs() - (nearest - x).abs(), (nearest - x).abs() > 1e-6
    inside = moved & (nearest > 1e-6) & (nearest < 1 - 1e-6)
    threshold = lowered.masked_fill(~inside, float("nan")).nanmedian(1, keepdim=True).values.nan_to_num(0)
    assert ((lowered - threshold).abs()[inside] < 1e-5).all()
    assert (lowered[moved & ~inside] > threshold.expand_as(lowered)[moved & ~inside] - 1e-5).all()
    assert (total < 0.8 - 1e-3).sum() < 200 > (ball.project(point, x) - x).abs().sum(1).lt(1e-3).sum()
    assert torch.equal(ball.project(x, x), x)


def test_cutting_a_projection_leaves_some_of_the_radius_unused():
    """What the nearest point is for: of two features at their ends and one free, the free one gets all."""
    x, point = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1.9, 1.9, 0.9]])
    assert torch.allclose(L1Box(0.9).project(point, x), torch.tensor([[1.0, 1.0, 0.9]]))
    assert ball_of("l1", 0.9).project(point, x)[0, 2] < 0.4


def test_so_many_features_move():
    gradient = torch.tensor([[3.0, -2.0, 1.0, 0.0], [0.1, 0.1, 0.1, -5.0], [0.0, 0.0, 0.0, 0.0]])
    signs = sparse_signs(gradient, torch.tensor([2, 1, 3]))
    assert torch.equal(signs, torch.tensor([[0.5, -0.5, 0, 0], [0, 0, 0, -1.0], [0, 0, 0, 0]]))


def test_the_comparison_can_fail():
    """Fewer steps are another walk."""
    budget = ("linf", 0.1, "dlr")
    assert walked(*budget, steps=40)[1].tolist() != pytest.approx(THEIRS[budget], abs=0.01)


def test_checkpoints_of_a_hundred_steps():
    """p = .22, .41, .57, ... of the paper's equation 3."""
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    assert checkpoints(1) == (1,) and checkpoints(3) == (1, 2, 3)


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.01), ("l2", 0.025), ("l1", 0.05)])
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
    for norm, radius in (("linf", 0.3), ("l2", 1.0), ("l1", 2.0)):
        out = walked(norm, radius, "cross-entropy")[0]
        assert ball_of(norm, 0).size(out - X).max() <= radius + 1e-5 and out.min() >= 0 and out.max() <= 1
