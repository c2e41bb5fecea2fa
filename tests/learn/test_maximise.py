"""Inner maximisation against closed forms, and the promises that DP-SGD and the attacks build on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Refused
from consilium.learn.perturbation.balls import ball_of, size_of
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.losses import CrossEntropyLoss, MarginLoss, margin
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.tasks.single_label import SingleLabel


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small_network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3)).eval()


def inputs(n=12, seed=1):
    g = generator(seed)
    return torch.rand(n, 1, 4, 4, generator=g), torch.randint(3, (n,), generator=g)


def ascend(predict, x, y, *, radius=0.05, norm="linf", active=False, judge=None, **changes):
    knobs = {"steps": 10, "step_size": 0.02, "random_start": True, "until": judge or (predict if active else None)}
    plain = {"loss": CrossEntropyLoss(), "goal": Misclassification(SingleLabel())}
    return maximise(
        predict, x, y, ball=ball_of(norm, radius), **{**plain, **knobs, "generator": generator(), **changes}
    )


def fooled(logits, y):
    return Misclassification(SingleLabel()).surely(logits, y)


def project(point, x, radius, norm):
    return ball_of(norm, radius).project(point, x)


W = torch.tensor([[1.0, -2.0, 0.5, 3.0]])


def linear(x):
    return torch.cat([torch.zeros(len(x), 1), x @ W.T], 1)


def test_linf_on_a_linear_model_is_the_corner_of_the_ball():
    x = torch.full((1, 4), 0.5)
    out = ascend(linear, x, torch.tensor([1]), radius=0.1, steps=5, step_size=0.05)
    assert torch.allclose(out, x - 0.1 * W.sign())


def test_l2_on_a_linear_model_is_along_the_gradient():
    x = torch.full((1, 4), 0.5)
    out = ascend(linear, x, torch.tensor([1]), radius=0.1, steps=50, step_size=0.05, norm="l2")
    assert torch.allclose(out, x - 0.1 * W / W.norm(), atol=1e-3)


def test_the_margin_is_the_lead_of_the_best_wrong_answer():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, -1.0]])
    assert torch.equal(margin(logits, torch.tensor([0, 2])), torch.tensor([-1.0, 6.0]))


def test_a_step_along_the_margin_goes_to_the_nearest_wrong_class():
    """Of three classes the runner-up decides: the gradient of z_1 - z_0 alone, where cross-entropy mixes in z_2."""
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    out = maximise(
        lambda x: x @ weight.T + torch.tensor([1.0, 0.5, 0.0]), torch.full((1, 2), 0.2), torch.tensor([0]),
        ball=ball_of("l2", 0.1), steps=1, step_size=0.1, random_start=False, generator=generator(), loss=MarginLoss(),
        goal=Misclassification(SingleLabel()),
    )  # fmt: skip
    assert torch.allclose(out, torch.tensor([[0.3, 0.2]]))


def test_one_full_step_is_fgsm():
    x, y = inputs()
    network = small_network()
    out = ascend(network, x, y, steps=1, step_size=0.05, random_start=False)
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), y), leaf)
    assert torch.allclose(out, (x + 0.05 * gradient.sign()).clamp(0, 1))


@settings(max_examples=40, deadline=None)
@given(
    radius=st.floats(0, 2),
    norm=st.sampled_from(["linf", "l2"]),
    active=st.booleans(),
    start=st.booleans(),
    seed=st.integers(0, 5),
)
def test_it_stays_in_the_ball_and_in_the_cube(radius, norm, active, start, seed):
    x, y = inputs(6, seed)
    x[0], x[1] = 0, 1
    out = ascend(small_network(seed), x, y, radius=radius, norm=norm, active=active, random_start=start, steps=3,
                 step_size=0.3)  # fmt: skip
    assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1
    assert size_of(out - x, norm).max() <= radius + 1e-5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_keeps_what_is_inside_and_is_idempotent(norm):
    x = torch.full((2, 3), 0.5)
    inside = x + torch.tensor([[0.01, -0.02, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(project(inside, x, 0.1, norm), inside)
    once = project(x + 3, x, 0.1, norm)
    assert torch.allclose(project(once, x, 0.1, norm), once)
    assert torch.allclose(size_of(once - x, norm), torch.full((2,), 0.1))


def test_sizes_by_hand():
    delta = torch.tensor([[[3.0, -4.0]], [[0.0, 0.0]]])
    assert size_of(delta, "linf").tolist() == [4, 0] and size_of(delta, "l2").tolist() == [5, 0]


def test_the_loss_rises():
    x, y = inputs(64)
    network = small_network()
    before, after = (F.cross_entropy(network(z), y) for z in (x, ascend(network, x, y)))
    assert after > before


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("active", [False, True])
def test_an_example_does_not_depend_on_its_companions(norm, active):
    """LAWS 5.  Without a random start the batch is exactly its examples one by one."""
    x, y = inputs()
    network = small_network()
    together = ascend(network, x, y, norm=norm, active=active, random_start=False)
    alone = [ascend(network, x[[i]], y[[i]], norm=norm, active=active, random_start=False) for i in range(len(x))]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_that_independence_can_be_lost():
    """A model whose answers mix the batch breaks it: the check above sees something."""
    x, y = inputs()
    network = small_network()
    mixed = lambda z: network(z) * 1e3 * (z.mean() - 0.45)  # noqa: E731
    together = ascend(mixed, x, y, random_start=False)
    alone = torch.cat([ascend(mixed, x[[i]], y[[i]], random_start=False) for i in range(len(x))])
    assert not torch.allclose(together, alone, atol=1e-6)


def any_iterate(predict, x, y, start, steps, step_size, radius):
    """The verdict that active-set shrinking must not change: wrong at x or at any point of the walk."""
    wrong, point = fooled(predict(x), y), start
    for _ in range(steps):
        wrong |= fooled(predict(point), y)
        leaf = point.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(predict(leaf), y, reduction="sum"), leaf)
        point = project(point + step_size * gradient.sign(), x, radius, "linf")
    return wrong | fooled(predict(point), y)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("random_start", [False, True])
def test_active_set_shrinking_changes_no_verdict(seed, random_start):
    x, y = inputs(200, seed)
    network = small_network(seed)
    y = torch.where(torch.arange(200) < 180, network(x).argmax(1), y)
    knobs = {"radius": 0.2, "steps": 6, "step_size": 0.15}
    noise = 2 * torch.rand(x.shape, generator=generator(seed)) - 1
    start = project(x + 0.2 * noise, x, 0.2, "linf") if random_start else x
    expected = any_iterate(network, x, y, start, 6, 0.15, 0.2)
    out = ascend(network, x, y, active=True, random_start=random_start, generator=generator(seed), **knobs)
    assert torch.equal(fooled(network(out), y), expected)
    assert 20 < expected.sum() < 200  # neither trivial


def test_active_spends_less():
    """The work saved is the share already fooled: here nearly everything after the first step."""
    x, y = inputs(50)
    network, rows = small_network(), [0]

    def counted(z):
        rows[0] += len(z)
        return network(z)

    y = network(x).argmax(1)
    ascend(counted, x, y, radius=0.9, step_size=0.9, steps=20, random_start=False)
    plain, rows[0] = rows[0], 0
    ascend(counted, x, y, radius=0.9, step_size=0.9, steps=20, random_start=False, active=True)
    assert rows[0] < plain / 2


def test_a_judge_decides_who_stops():
    x, y = inputs(30)
    network = small_network()
    y = network(x).argmax(1)
    never = lambda z: F.one_hot(y[: len(z)], 3).float()  # noqa: E731
    kept = ascend(network, x, y, radius=0.5, steps=4, active=True, judge=never)
    assert torch.equal(kept, ascend(network, x, y, radius=0.5, steps=4))
    always = lambda z: F.one_hot((y[: len(z)] + 1) % 3, 3).float()  # noqa: E731
    assert torch.equal(ascend(network, x, y, radius=0.5, steps=4, active=True, judge=always), x)


def test_a_tie_or_a_rounding_error_fools_nobody():
    logits = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-7], [1.0, 1.1], [-torch.inf, 0.0], [0.0, -torch.inf]])
    assert fooled(logits, torch.zeros(5, dtype=torch.long)).tolist() == [False, False, True, True, False]
    assert not fooled(torch.full((1, 2), torch.nan), torch.tensor([0])).any()
    assert not fooled(torch.full((1, 2), -torch.inf), torch.tensor([1])).any()


def test_tiny_gradients_still_point_somewhere():
    """Their squares underflow in float32; the direction must not."""
    x = torch.full((1, 4), 0.5)
    faint = lambda z: linear(z) * 1e-25  # noqa: E731
    out = ascend(faint, x, torch.tensor([1]), radius=0.1, steps=3, step_size=0.1, norm="l2", random_start=False)
    assert size_of(out - x, "l2").item() == pytest.approx(0.1, rel=1e-4)


def test_a_model_without_gradients_is_refused():
    x, y = inputs()
    with pytest.raises(Refused, match="without gradients"), torch.no_grad():
        ascend(lambda z: small_network()(z).detach(), x, y)


def test_nothing_else_is_touched():
    x, y = inputs()
    network, before = small_network(), inputs()[0]
    state = torch.get_rng_state()
    weights = [p.clone() for p in network.parameters()]
    with torch.no_grad():
        ascend(network, x, y, active=True)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(x, before)
    assert all(p.grad is None and torch.equal(p, w) for p, w in zip(network.parameters(), weights, strict=True))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_random_start_is_uniform_in_the_ball_and_decided_by_the_generator(norm):
    x, y = torch.full((4000, 2), 0.5), torch.zeros(4000, dtype=torch.long)
    flat = lambda z: z @ torch.zeros(2, 2, requires_grad=True)  # noqa: E731
    start = ascend(flat, x, y, radius=0.2, steps=1, norm=norm)
    assert torch.equal(start, ascend(flat, x, y, radius=0.2, steps=1, norm=norm))
    assert not torch.equal(start, ascend(flat, x, y, radius=0.2, steps=1, norm=norm, generator=generator(1)))
    # In two dimensions half of a disc lies within 1/sqrt(2) of its radius, half of a square likewise.
    inside = (size_of(start - x, norm) < 0.2 / 2**0.5).double().mean()
    assert abs(inside - 0.5) < 0.04 and (start - x).mean().abs() < 0.01


def test_an_empty_batch_stays_empty():
    x, y = inputs(0)
    for norm in ("linf", "l2"):
        assert ascend(small_network(), x, y, active=True, norm=norm).shape == (0, 1, 4, 4)
        assert ascend(small_network(), x, y, norm=norm).shape == (0, 1, 4, 4)
