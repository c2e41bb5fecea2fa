"""The nearest point of a plane, of a ball of its own radius, and of a segment, against programs that solve for it."""

import math

import pytest
import torch
from scipy.optimize import linprog

from consilium.core.errors import Refused
from consilium.learn.perturbation.balls import ball_of, size_of
from consilium.learn.perturbation.goals import ConfidenceReduction, Misclassification, Targeted
from consilium.learn.perturbation.losses import CrossEntropyLoss
from consilium.learn.perturbation.nearest.adam import Adam
from consilium.learn.perturbation.nearest.boundary import Boundary, gap_loss
from consilium.learn.perturbation.nearest.closest import Closest, shortened
from consilium.learn.perturbation.nearest.dual import dual_size, limited_rows
from consilium.learn.perturbation.nearest.plane import to_plane
from consilium.learn.tasks.single_label import SingleLabel


def drawn(n=40, d=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    points, normals = torch.rand(n, d, generator=g).double(), torch.randn(n, d, generator=g).double()
    points[::5, 0], points[1::5, 1], normals[2::5, 2] = 0, 1, 0
    return points, normals, 1.5 * torch.randn(n, generator=g).double()


def farthest(point, normal, rise):
    """The largest rise that the box allows, on the side of ``rise``."""
    sign = torch.sign(normal) * torch.sign(rise)
    return float((normal.abs() * torch.where(sign > 0, 1 - point, point)).sum())


def smallest(norm, point, normal, rise):
    """The size of the smallest change, by linear programming (l1, linf) or by halving its multiplier (l2)."""
    w, t, c = normal.numpy(), point.numpy(), float(rise)
    d = len(w)
    if norm == "l2":
        low, high = 0.0, 1e6
        for _ in range(200):
            middle = (low + high) / 2
            change = (math.copysign(middle, c) * normal).clamp(-point, 1 - point)
            low, high = (middle, high) if abs(float(change @ normal)) < abs(c) else (low, middle)
        return float(change.norm())
    if norm == "linf":  # min s, -s <= d <= s
        rows = torch.cat(
            [torch.cat([torch.eye(d), -torch.ones(d, 1)], 1), torch.cat([-torch.eye(d), -torch.ones(d, 1)], 1)]
        )
        out = linprog([0] * d + [1], rows.numpy(), [0] * (2 * d), [[*w, 0]], [c], [*zip(-t, 1 - t), (0, None)])
    else:  # d = up - down
        out = linprog([1] * (2 * d), None, None, [[*w, *-w]], [c], [*((0, 1 - v) for v in t), *((0, v) for v in t)])
    assert out.status == 0
    return float(out.fun)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_nearest_point_of_a_plane_in_the_box(norm):
    points, normals, rises = drawn()
    change = to_plane(points, normals, rises, norm)
    inside = points + change
    assert inside.min() >= -1e-12 and inside.max() <= 1 + 1e-12
    reachable = 0
    for point, normal, rise, step in zip(points, normals, rises, change, strict=True):
        most = farthest(point, normal, rise)
        if most <= abs(float(rise)):
            assert abs(float(normal @ step)) == pytest.approx(most)  # the corner
            continue
        reachable += 1
        assert float(normal @ step) == pytest.approx(float(rise), abs=1e-9)
        assert float(size_of(step[None], norm)) == pytest.approx(smallest(norm, point, normal, rise), rel=1e-6)
    assert 10 < reachable < 40


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_plane_without_a_slope_moves_nothing(norm):
    change = to_plane(torch.rand(3, 4), torch.zeros(3, 4), torch.tensor([1.0, -1.0, 0.0]), norm)
    assert torch.equal(change, torch.zeros(3, 4))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_each_row_is_limited_to_a_radius_of_its_own(norm):
    delta = torch.randn(5, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    radii = torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0])
    rows = limited_rows(delta, norm, radii)
    for row, change, radius in zip(rows, delta, radii, strict=True):
        assert torch.allclose(row[None], ball_of(norm, float(radius)).limited(change[None]), atol=1e-6)


def test_the_dual_size_bounds_the_product():
    g = torch.Generator().manual_seed(0)
    gradient, delta = torch.randn(50, 7, generator=g), torch.randn(50, 7, generator=g)
    for norm in ("linf", "l2", "l1"):
        bound = dual_size(gradient, norm) * size_of(delta, norm)
        assert ((gradient * delta).sum(1).abs() <= bound + 1e-5).all()


def linear():
    """Wrong where the first of two features is above one half."""
    task = SingleLabel()
    goal = Misclassification(task)

    def predict(x):
        return torch.stack([torch.zeros_like(x[:, 0]), 10 * (x[:, 0] - 0.5)], 1)

    return Boundary(predict, predict, goal, gap_loss(goal, task))


def test_a_segment_is_halved_to_the_boundary():
    x, points = torch.tensor([[0.1, 0.0], [0.4, 0.0]]), torch.tensor([[0.9, 0.0], [1.0, 0.6]])
    y = torch.tensor([0, 0])
    near = shortened(linear(), x, points, y, 12)
    assert torch.allclose(near[:, 0], torch.full((2,), 0.5), atol=1e-3) and linear().reached(near, y).all()
    assert near[1, 1] == pytest.approx(0.1, abs=1e-3)
    assert torch.equal(shortened(linear(), x, points, y, 0), points)


def test_only_nearer_points_that_reach_the_goal_are_kept():
    closest = Closest.of(torch.zeros(2, 3))
    rows = torch.tensor([1])
    for point, distance, reached in ((1.0, 3.0, True), (2.0, 4.0, True), (3.0, 1.0, False), (4.0, 2.0, True)):
        closest.offer(rows, torch.full((1, 3), point), torch.tensor([distance]), torch.tensor([reached]))
    assert closest.points.tolist() == [[0.0] * 3, [4.0] * 3] and closest.distances.tolist() == [math.inf, 2.0]


@pytest.mark.parametrize(
    "goal", [Misclassification(SingleLabel()), Targeted(2), ConfidenceReduction(0.3), ConfidenceReduction(1.0)]
)
def test_the_gap_is_above_zero_exactly_where_the_goal_is_reached(goal):
    logits = 3 * torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(500) % 2
    gap = goal.climbed(gap_loss(goal, SingleLabel()), logits, y)
    assert torch.equal(gap > 0, goal.reached(logits, y))
    assert int((gap > 0).sum()) > 0


def test_a_confidence_has_no_target():
    with pytest.raises(Refused, match="no target"):
        gap_loss(ConfidenceReduction(0.3), SingleLabel()).targeted(torch.zeros(1, 2), torch.zeros(1), torch.zeros(1))


def test_a_model_without_gradients_is_refused():
    goal = Misclassification(SingleLabel())
    still = Boundary(lambda x: x.detach(), lambda x: x, goal, CrossEntropyLoss())
    with pytest.raises(Refused, match="without gradients"):
        still.answers(torch.zeros(1, 2))


def test_adam_is_torchs_and_rows_leave_it_unchanged():
    g = torch.Generator().manual_seed(0)
    weights = torch.zeros(3, 2, requires_grad=True)
    theirs, ours, change = torch.optim.Adam([weights], 0.05), Adam.of(torch.zeros(3, 2), 0.05), torch.zeros(3, 2)
    for step in range(6):
        weights.grad = torch.randn(3, 2, generator=g)
        gradient = weights.grad.clone()
        theirs.step()
        if step == 3:
            ours, change = ours.of_rows(torch.tensor([True, False, True])), change[[0, 2]]
        change = change - ours.step(gradient if step < 3 else gradient[[0, 2]])
    assert torch.allclose(change, weights.detach()[[0, 2]], atol=1e-7)
