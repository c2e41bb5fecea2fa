"""The fast way to a gradient is the slow one, to the last bit; nothing of one call is left for the next."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.workspace import Compute, Workspace, draws_nothing, pooled_first
from consilium.learn.models.cnn import CNN
from consilium.learn.models.mlp import MLP
from consilium.learn.models.resnet9 import ResNet9

SHAPE = (1, 12, 12)
MODELS = [MLP(hidden=5), CNN(width=3), ResNet9(width=2), ResNet9(width=2, norm="batch")]


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(9, *SHAPE, generator=generator), torch.randint(0, 3, (9,), generator=generator)


def network(architecture, compute=None):
    with scoped(Stream(1).child("init")):
        return Network(architecture.build(SHAPE, 3), compute)


def slow(net, params, buffers, x, y):
    """Through functional_call and one flat leaf."""
    at, after = params.clone().requires_grad_(), buffers.clone()
    loss = F.cross_entropy(net.logits(at, after, x, training=True), y)
    return torch.autograd.grad(loss, at)[0], after


def fast(net, params, buffers, x, y):
    return net.workspace.gradient(params, buffers, lambda predict: F.cross_entropy(predict(x), y))


@pytest.mark.parametrize("architecture", MODELS, ids=["mlp", "cnn", "group norm", "batch norm"])
def test_gradient_and_buffers_are_those_of_the_slow_way(architecture) -> None:
    net = network(architecture)
    params, buffers = net.start()
    for seed in range(3):
        x, y = batch(seed)
        (value, after), (expected, running) = fast(net, params, buffers, x, y), slow(net, params, buffers, x, y)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(after, running, rtol=1e-5, atol=1e-7)
        params, buffers = params - 0.1 * value, after


def test_the_comparison_can_fail() -> None:
    net = network(CNN(width=3))
    params, buffers = net.start()
    x, y = batch()
    moved = params.clone()
    moved[7] += 0.1
    with pytest.raises(AssertionError):
        torch.testing.assert_close(fast(net, moved, buffers, x, y)[0], slow(net, params, buffers, x, y)[0])


def test_two_sites_that_use_one_workspace_share_nothing() -> None:
    net = network(ResNet9(width=2, norm="batch"))
    params, buffers = net.start()
    (x, y), (other, labels) = batch(0), batch(1)
    alone = fast(net, params, buffers, x, y)
    fast(net, params * 2, buffers + 5, other, labels)
    again = fast(net, params, buffers, x, y)
    assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))
    assert torch.equal(torch.cat([p.flatten() for p in net.template.parameters()]), params)


def test_a_parameter_that_is_not_used_has_gradient_zero() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return self.used(x)

    net = Network(Idle())
    params, buffers = net.start()
    value, _ = fast(net, params, buffers, torch.rand(3, 4), torch.tensor([0, 1, 1]))
    assert value.shape == params.shape
    assert bool((value[-10:] == 0).all()) and bool((value[:10] != 0).any())


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, padding=1), nn.AdaptiveMaxPool2d(4)])
@pytest.mark.parametrize("shift", [-2.0, -0.5, 0.0, 0.5])  # windows all below zero, and above
def test_pooling_first_gives_the_same_bits(pool, shift) -> None:
    generator = torch.Generator().manual_seed(3)
    x = (torch.randn(4, 3, 12, 12, generator=generator) + shift).round(decimals=1)  # rounded, so that there are ties
    found = []
    for module in (nn.Sequential(nn.ReLU(), pool), pooled_first(nn.Sequential(nn.ReLU(), pool))):
        at = x.clone().requires_grad_()
        out = module(at)
        weight = torch.arange(out.numel(), dtype=torch.float32).view_as(out)
        found.append((out, torch.autograd.grad((out * weight).sum(), at)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_only_what_commutes_is_swapped() -> None:
    kept = nn.Sequential(nn.Tanh(), nn.MaxPool2d(2), nn.ReLU(), nn.AvgPool2d(2), nn.ReLU(), nn.MaxPool2d(2))
    names = [type(layer).__name__ for layer in pooled_first(kept)]
    assert names == ["Tanh", "MaxPool2d", "ReLU", "AvgPool2d", "MaxPool2d", "ReLU"]
    hooked = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    hooked[0].register_forward_hook(lambda *_: None)
    assert isinstance(pooled_first(hooked)[0], nn.ReLU)


def test_the_template_is_left_as_it_was() -> None:
    net = network(CNN(width=3))
    before = [type(layer).__name__ for layer in net.template]
    Workspace(net.template, Compute())
    assert [type(layer).__name__ for layer in net.template] == before


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (CNN(width=3).build(SHAPE, 3), True),
        (ResNet9(width=2).build(SHAPE, 3), True),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), False),
        (nn.RReLU(), False),
        (nn.MultiheadAttention(4, 2), False),
        (nn.LSTM(2, 2, 2, dropout=0.5), False),
    ],
)
def test_only_layers_known_to_draw_nothing_are_trusted(module, expected) -> None:
    assert draws_nothing(module) is expected


def test_a_users_layer_is_not_trusted() -> None:
    class Mine(nn.Module):
        def forward(self, x):
            return x + torch.rand(())

    assert not draws_nothing(nn.Sequential(nn.Linear(2, 2), Mine()))


@pytest.mark.parametrize("architecture", MODELS, ids=["mlp", "cnn", "group norm", "batch norm"])
def test_answers_are_those_of_the_model_in_evaluation_mode(architecture) -> None:
    net = network(architecture, Compute("bf16"))
    params, buffers = net.start()
    x, y = batch()
    for _ in range(2):  # also after a gradient has put the module in training mode
        torch.testing.assert_close(net.workspace.answers(params, buffers)(x), net.module_at(params, buffers)(x))
        params, buffers = params - 0.1 * fast(net, params, buffers, x, y)[0], fast(net, params, buffers, x, y)[1]


def test_a_group_norm_that_meets_the_inputs_is_not_handed_them_channels_last() -> None:
    """Else torch 2.13 ends the process in the backward pass."""
    first = nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(48, 3))
    net = Network(first, Compute(layout="channels-last"))
    x, y = torch.rand(5, 4, 6, 6), torch.tensor([0, 1, 2, 0, 1])
    params, buffers = net.start()
    found, _ = fast(net, params, buffers, x, y)
    torch.testing.assert_close(found, fast(Network(first), params, buffers, x, y)[0])
    later = Network(nn.Sequential(nn.Conv2d(4, 4, 1), first), Compute(layout="channels-last"))
    assert later.workspace.compute.layout == "channels-last"
