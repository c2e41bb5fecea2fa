"""Low-rank additions: the formula, the start, per-example gradients, what is released, and what a full rank can do."""

import copy
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.learn.fine_tuning.low_rank import LowRank, with_low_rank

check_books = runpy.run_path(str(Path(__file__).with_name("layer_problem.py")))["check_books"]
LAYERS = {
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 4, bias=False), (3, 5)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 4, (3, 2), padding=(2, 1), dilation=(2, 1), padding_mode="reflect"), (3, 7, 7)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, padding="same"), (2, 3, 3, 3)),
}


def added(name, rank=2, scale=1.5):
    """An addition that is not zero, as after training."""
    make, shape = LAYERS[name]
    with scoped(Stream(7)):
        layer = LowRank(make(), rank, scale).double()
        nn.init.normal_(layer.up.weight)
        return layer, torch.randn(6, *shape, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_it_is_released_as_one_ordinary_layer_with_the_same_answers(name):
    layer, x = added(name)
    plain = layer.plain()
    assert type(plain) is type(layer.layer)
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(plain(x), layer.layer(x))


def test_the_weight_is_w_plus_b_a():
    layer, _ = added("linear", rank=2, scale=0.25)
    by_hand = layer.layer.weight + 0.25 * layer.up.weight @ layer.down.weight
    torch.testing.assert_close(layer.plain().weight, by_hand, rtol=0, atol=1e-15)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_at_the_start_it_answers_as_the_layer_to_the_last_bit(name):
    make, shape = LAYERS[name]
    layer = make()
    x = torch.randn(3, *shape)
    assert torch.equal(LowRank(copy.deepcopy(layer), 2, 1.0)(x), layer(x))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_per_example_gradients_go_by_the_rules_and_agree_with_vmap(name):
    """In float64 to 1e-12: no module of it needs vmap."""
    layer, x = added(name)
    check_books(nn.Sequential(layer, nn.Tanh()), tuple(x.shape[1:]))


def model():
    with scoped(Stream(2)):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 8),
            nn.Linear(8, 3),
        )  # fmt: skip


def test_what_trains_is_the_head_and_the_additions():
    net = Network(with_low_rank(model(), 2, None, "5"))
    assert net.trained == (
        "0.down.weight", "0.up.weight", "4.down.weight", "4.up.weight", "5.weight", "5.bias",
    )  # fmt: skip
    assert net.size == 2 * 9 + 2 * 4 + 2 * 64 + 2 * 8 + 8 * 3 + 3
    assert net.parameters == sum(p.numel() for p in model().parameters())
    released = net.module_at(*net.start())
    assert all(torch.equal(t, released.state_dict()[name]) for name, t in model().state_dict().items())


def test_a_rank_is_at_most_the_smaller_side():
    """More could reach no other weight."""
    net = Network(with_low_rank(model(), 100, None, "5"))
    assert net.parameters_at(net.start()[0])["0.up.weight"].shape == (4, 4, 1, 1)


def test_alpha_divides_by_the_rank():
    assert with_low_rank(model(), 4, 16.0, "5")[0].scale == 4.0
    assert with_low_rank(model(), 4, None, "5")[0].scale == 1.0


def test_at_full_rank_any_weight_can_be_reached():
    """Least squares with a wrong weight, frozen: the addition of full rank finds the solution, one of rank 1 cannot."""
    x = torch.randn(64, 4, generator=Stream(1).generator(), dtype=torch.float64)
    wanted = torch.diag(torch.tensor([2.0, -1.0, 0.5, 3.0], dtype=torch.float64))

    def loss(rank):
        with scoped(Stream(3)):
            layer = LowRank(nn.Linear(4, 4, bias=False), rank, 1.0).double()
        optimiser = torch.optim.LBFGS([layer.down.weight, layer.up.weight], max_iter=500, line_search_fn="strong_wolfe")

        def closure():
            optimiser.zero_grad()
            value = (layer(x) - x @ wanted).square().mean()
            value.backward()
            return value

        optimiser.step(closure)
        return float(closure().detach())

    assert loss(4) < 1e-6
    assert loss(1) > 0.1


def test_a_layer_of_two_places_has_one_addition():
    layer = nn.Linear(4, 4)
    module = with_low_rank(nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 2)), 2, None, "3")
    assert module[0] is module[2]
    net, x = Network(module), torch.rand(3, 4)
    params = net.start()[0] + 0.1
    torch.testing.assert_close(net.module_at(params, net.start()[1])(x), net.logits(params, net.start()[1], x))


def test_a_model_of_nothing_but_a_head_is_refused():
    with pytest.raises(Refused, match="nothing to add to"):
        with_low_rank(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 2, None, "1")
