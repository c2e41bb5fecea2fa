"""Weight standardisation and ScaleNorm: the formula, the structure, and that gradients per example stay exact."""

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.architecture import Normalise
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.models.resnet9 import ResNet9
from consilium.learn.models.tanh_cnn import TanhCNN
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import per_example_norms
from consilium.learn.standardised import StandardisedConv2d
from consilium.learn.tasks.single_label import SingleLabel


def test_filters_are_used_with_mean_zero_and_variance_one():
    with scoped(Stream(0)):
        layer = StandardisedConv2d(3, 5, 3, padding=1, bias=False)
    x = torch.rand(2, 3, 8, 8)
    w = layer.weight.detach()
    rows = w.flatten(1)
    standard = ((rows - rows.mean(1, keepdim=True)) / (rows.var(1, correction=0, keepdim=True) + 1e-5).sqrt()).view_as(
        w
    )
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, standard, padding=1))
    assert not torch.allclose(layer(x), nn.functional.conv2d(x, w, padding=1))


def test_its_per_example_gradients_are_those_of_the_raw_filters():
    """Were the gradient of the standardised filter clipped, a record could move the sum by more than C."""
    with scoped(Stream(0)):
        net = Network(ResNet9(width=2, groups=2, weight_standardisation=True, scale_norm=True).build((1, 8, 8), 3))
    g = Stream(1).generator()
    x, y = torch.rand(4, 1, 8, 8, generator=g), torch.randint(3, (4,), generator=g)
    params, buffers = net.start()
    found = per_example_norms(net, params, buffers, TaskLoss(SingleLabel()), {"x": x, "y": y})
    for i in range(4):
        at = params.clone().requires_grad_()
        loss = nn.functional.cross_entropy(net.logits(at, buffers, x[i : i + 1]), y[i : i + 1])
        (own,) = torch.autograd.grad(loss, at)
        assert float(found[i]) == pytest.approx(float(own.norm()), rel=1e-3)


def test_scale_norm_stands_after_each_residual_block():
    plain, scaled = (ResNet9(width=4, scale_norm=s).build((1, 16, 16), 3) for s in (False, True))
    kinds = [[type(layer).__name__ for layer in module] for module in (plain, scaled)]
    after = [kinds[1][i + 1] for i, kind in enumerate(kinds[1]) if kind == "_Residual"]
    assert after == ["GroupNorm", "GroupNorm"]
    assert [k for k in kinds[1] if k != "GroupNorm"] == kinds[0]
    assert sum(p.numel() for p in scaled.parameters()) - sum(p.numel() for p in plain.parameters()) == 2 * (8 + 16)


def test_both_are_lawful_under_dp():
    with scoped(Stream(0)):
        net = Network(ResNet9(width=2, weight_standardisation=True, scale_norm=True).build((1, 8, 8), 3))
    rule = DPSGD(noise_multiplier=1.0).rule(MeanGradient())
    rule.refuse(net, (1, 8, 8))
    assert rule.schedule(Schedule(1, 1, 8)) == Schedule(1, 1, 8)


def test_the_tanh_network_is_the_published_one():
    module = TanhCNN().build((1, 28, 28), 10)
    assert sum(p.numel() for p in module.parameters()) == 26010
    assert module(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert isinstance(module[0], Normalise)  # a tanh that only sees positive numbers starts off its centre
    assert TanhCNN(width=3).build((3, 16, 32), 4)(torch.rand(2, 3, 16, 32)).shape == (2, 4)
    with pytest.raises(Refused, match="too small"):
        TanhCNN().build((1, 15, 28), 2)
