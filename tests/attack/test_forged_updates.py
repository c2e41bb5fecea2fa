"""What colluders send instead of their own updates, against closed forms, a search by hand and another package."""

import math

import pytest
import torch

from consilium.attack.poisoning._forged import hidden_deviations
from consilium.attack.poisoning.a_little_is_enough import ALittleIsEnough
from consilium.attack.poisoning.free_rider import FreeRider
from consilium.attack.poisoning.gaussian_update import GaussianUpdate
from consilium.attack.poisoning.inner_product import InnerProduct
from consilium.attack.poisoning.min_max import MinMax
from consilium.attack.poisoning.min_sum import MinSum
from consilium.attack.poisoning.sign_flip import SignFlip
from consilium.core.collusion import AggregateView, ColludingView, OmniscientView
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.threat import RoundView
from consilium.core.update import Update
from consilium.learn.tasks.single_label import SingleLabel

HONEST = torch.tensor([[1.0, 2.0, -1.0], [3.0, 0.0, 0.5], [2.0, 4.0, -2.0]])


def sent(rows, name="honest"):
    return [Update(f"{name}-{k}", 1, 1.0, {"delta": row, "buffers": torch.ones(2)}) for k, row in enumerate(rows)]


def omniscient(rows, round=1):
    updates = {update.site: update for update in sent(rows)}
    mean = {"delta": rows.mean(0), "buffers": torch.ones(2)} if len(rows) else {}
    return OmniscientView(2, round, torch.zeros(3), torch.zeros(2), mean, updates, task=SingleLabel())


def forged(entry, rows=HONEST, colluders=2, view=None):
    own = sent(torch.arange(3.0 * colluders).reshape(colluders, 3), "bad")
    after, _ = entry.forge({}, own, view or omniscient(rows))
    assert [update.site for update in after] == [update.site for update in own]
    return torch.stack([update.payload["delta"] for update in after])


def test_the_values_of_byzfl():
    """byzfl 0.0.11 on HONEST in float64: InnerProductManipulation(tau=2), ALittleIsEnough(tau=1.5) (its sign is +)."""
    ipm, alie = [-4.0, -4.0, 5 / 3], [3.5, 5.0, 1.0541]
    assert torch.allclose(forged(InnerProduct(scale=2.0)), torch.tensor([ipm, ipm]), atol=1e-6)
    assert torch.allclose(forged(ALittleIsEnough(z=-1.5)), torch.tensor([alie, alie]), atol=1e-4)
    assert not torch.allclose(forged(ALittleIsEnough(z=1.5)), torch.tensor([alie, alie]), atol=0.1)


@pytest.mark.parametrize(
    ("corrupted", "sites", "z"),
    [(12, 50, 0.3360), (24, 50, 1.4261), (5, 20, 0.2533), (1, 10, -0.1397), (3, 4, math.inf)],
)
def test_the_deviations_that_hide(corrupted, sites, z):
    """s = floor(n / 2 + 1) - m; Phi^-1((n - m - s) / (n - m)), by hand: 24/38, 24/26, 9/15, 4/9, 1."""
    assert hidden_deviations(corrupted, sites) == (pytest.approx(z, abs=1e-4) if math.isfinite(z) else z)


def test_without_z_the_formula_is_used_and_too_few_are_refused():
    rows = torch.randn(15, 3, generator=torch.Generator().manual_seed(0))
    expected = rows.mean(0) - 0.253347 * rows.std(0)
    assert torch.allclose(forged(ALittleIsEnough(), rows, 5), expected.expand(5, 3), atol=1e-5)
    ALittleIsEnough().check_sites(5, 20)
    with pytest.raises(Refused, match=r"1 corrupted of 10 sites give z = -0.14 by the formula"):
        ALittleIsEnough().check_sites(1, 10)
    ALittleIsEnough(z=1.0).check_sites(1, 10)


def test_a_sign_is_flipped_and_nothing_else():
    own = sent(HONEST, "bad")
    view = RoundView(2, 1, torch.zeros(3), torch.zeros(2), task=SingleLabel())
    after, _ = SignFlip(scale=3.0).forge({}, own, view)
    assert all(torch.equal(a.payload["delta"], -3 * b.payload["delta"]) for a, b in zip(after, own, strict=True))
    assert all(
        a.payload["buffers"] is b.payload["buffers"] and a.weight == b.weight for a, b in zip(after, own, strict=True)
    )


def searched(honest, way, fits):
    """The largest gamma that ``fits``, by halving: the authors' own search, to 1e-9."""
    mean, low, high = honest.mean(0), 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(mean + middle * way) else (low, middle)
    return mean + low * way


WAYS = {"unit": lambda h: -h.mean(0) / h.mean(0).norm(), "deviation": lambda h: -h.std(0),
        "sign": lambda h: -h.mean(0).sign()}  # fmt: skip


@pytest.mark.parametrize("direction", sorted(WAYS))
@pytest.mark.parametrize("seed", range(4))
def test_min_max_and_min_sum_go_as_far_as_a_search(direction, seed):
    honest = torch.randn(7, 11, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    apart = torch.cdist(honest, honest)
    nearest = lambda x: (x - honest).norm(dim=1).max() <= apart.max()  # noqa: E731
    summed = lambda x: (x - honest).square().sum() <= apart.square().sum(1).max()  # noqa: E731
    way = WAYS[direction](honest)
    for entry, fits in ((MinMax(direction=direction), nearest), (MinSum(direction=direction), summed)):
        expected = searched(honest, way, fits)
        assert torch.allclose(forged(entry, honest, 3)[:, :3], expected.expand(3, 11)[:, :3], atol=1e-6)
        assert not fits(honest.mean(0) + 1.001 * (expected - honest.mean(0))), "it is the largest"


def test_who_is_alone_sends_its_own():
    for entry in (MinMax(), MinSum(), ALittleIsEnough(z=1.0)):
        assert torch.equal(forged(entry, HONEST[:1]), torch.arange(6.0).reshape(2, 3))
    nobody = AggregateView(2, 1, torch.zeros(3), torch.zeros(2), {}, task=SingleLabel())
    assert torch.equal(forged(InnerProduct(), view=nobody), torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "entry", [MinMax(), MinSum(), ALittleIsEnough(z=1.0), InnerProduct(), FreeRider()], ids=lambda e: e.kind()
)
def test_who_is_granted_less_is_refused(entry):
    view = RoundView(2, 1, torch.zeros(3), torch.zeros(2), task=SingleLabel())
    with pytest.raises(Refused, match=f"{entry.kind()} needs"):
        entry.forge({}, sent(HONEST, "bad"), view)


def noise(entry, round=1, seed=0, size=20000):
    own = [Update(f"bad-{k}", round, 1.0, {"delta": torch.ones(size), "steps": torch.tensor([4.0])}) for k in range(2)]
    extra = {"task": SingleLabel(), "stream": Stream(seed).child("forging", round)}
    view = ColludingView(2, round, torch.zeros(size), torch.zeros(0), **extra)
    after, _ = entry.forge({}, own, view)
    assert all(update.payload["steps"] == 4 for update in after)
    return torch.stack([update.payload["delta"] for update in after])


def test_gaussian_noise_has_its_deviation_and_is_drawn_anew():
    one = noise(GaussianUpdate(deviation=2.0))
    assert one.std() == pytest.approx(2.0, rel=0.03) and abs(float(one.mean())) < 0.05
    assert torch.equal(one, noise(GaussianUpdate(deviation=2.0)))
    assert not torch.equal(one[0], one[1]) and not torch.equal(one, noise(GaussianUpdate(deviation=2.0), round=2))
    assert not torch.equal(one, noise(GaussianUpdate(deviation=2.0), seed=1))


def test_a_free_rider_sends_the_broadcast_back_with_noise_that_shrinks():
    assert noise(FreeRider(noise=0.1), round=1).std() == pytest.approx(0.1, rel=0.03)
    assert noise(FreeRider(noise=0.1), round=4).std() == pytest.approx(0.025, rel=0.03)
    assert torch.equal(noise(FreeRider(noise=0.0)), torch.zeros(2, 20000))


@pytest.mark.parametrize(
    ("kind", "knobs"),
    [(SignFlip, {"scale": 0.0}), (ALittleIsEnough, {"z": 0.0}), (InnerProduct, {"scale": -1.0}),
     (GaussianUpdate, {"deviation": 0.0}), (FreeRider, {"noise": -1.0}), (FreeRider, {"decay": -1.0}),
     (MinMax, {"sites": -1})],
)  # fmt: skip
def test_a_knob_out_of_range_is_refused_by_name(kind, knobs):
    with pytest.raises(Refused, match="out of range"):
        kind(**knobs)
