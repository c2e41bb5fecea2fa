"""CLP: bounds equal the spectral norms that numpy finds, planted channels alone go, narrow layers are refused."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.model._channel_bounds import channel_bounds
from consilium.defend.model._channels import hidden_channels, silenced
from consilium.defend.model.channel_lipschitzness_pruning import ChannelLipschitznessPruning
from consilium.defend.model.static_int8 import StaticInt8
from consilium.learn.standardised import StandardisedConv2d
from consilium.learn.tasks.single_label import SingleLabel

EXAMPLE = torch.zeros(2, 2, 8, 8)
NONE = Records.of(torch.zeros(0, 2, 8, 8), torch.zeros(0, dtype=torch.long))


def network(norm=None, channels=16, layer=nn.Conv2d):
    with scoped(Stream(0)):
        norms = [] if norm is None else [norm]
        net = nn.Sequential(layer(2, channels, 3), *norms, nn.ReLU(), nn.Flatten(), nn.Linear(channels * 36, 3))
        if norm is not None and norm.weight is not None:
            norm.weight.data = torch.randn(channels)
            norm.bias.data = torch.randn(channels)
        if getattr(norm, "running_var", None) is not None:
            norm.running_var = 0.5 + torch.rand(channels)
            norm.running_mean = torch.randn(channels)
    return net.eval().requires_grad_(False)


def bounds(net):
    (channels,) = hidden_channels(net, EXAMPLE, "clp")
    return channel_bounds(net, channels)


def spectral(weight):
    return np.array([np.linalg.svd(w.reshape(w.shape[0], -1).double().numpy())[1][0] for w in weight])


def test_the_bound_of_a_channel_is_the_spectral_norm_of_its_filter():
    net = network()
    np.testing.assert_allclose(bounds(net).numpy(), spectral(net[0].weight), rtol=1e-12)


def test_batch_normalisation_scales_it_by_gamma_over_the_running_deviation():
    net = network(nn.BatchNorm2d(16))
    gamma, variance = net[1].weight.double().numpy(), net[1].running_var.double().numpy()
    by_hand = spectral(net[0].weight) * np.abs(gamma) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(bounds(net).numpy(), by_hand, rtol=1e-12)


def test_group_normalisation_divides_by_the_deviation_that_white_inputs_would_give():
    net = network(nn.GroupNorm(4, 16))
    x = torch.randn(3000, 2, 8, 8, generator=Stream(1).generator())
    biases = net[0].bias.clone()
    out = torch.conv2d(x, net[0].weight)
    deviation = out.view(3000, 4, -1).transpose(0, 1).flatten(1).std(1).repeat_interleave(4).double().numpy()
    by_hand = spectral(net[0].weight) * np.abs(net[1].weight.double().numpy()) / deviation
    np.testing.assert_allclose(bounds(net).numpy(), by_hand, rtol=0.02)
    assert torch.equal(net[0].bias, biases)


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(16), nn.InstanceNorm2d(16, affine=True)])
def test_instance_normalisation_makes_it_a_share_of_the_filter(norm):
    net = network(norm)
    gamma = np.ones(16) if net[1].weight is None else np.abs(net[1].weight.double().numpy())
    lengths = net[0].weight.double().flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(bounds(net).numpy(), gamma * spectral(net[0].weight) / lengths, rtol=1e-3)


def test_of_a_linear_layer_it_is_the_length_of_a_row():
    net = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 3)).requires_grad_(False)
    (channels,) = hidden_channels(net, torch.zeros(1, 5), "clp")
    torch.testing.assert_close(channel_bounds(net, channels), net[0].weight.double().norm(dim=1))
    assert channels.activation == "1"


def test_standardised_filters_are_measured_as_they_are_used():
    net = network(nn.GroupNorm(16, 16), layer=StandardisedConv2d)
    plain = network(nn.GroupNorm(16, 16))
    plain[0].weight.copy_(net[0].plain().weight)
    torch.testing.assert_close(bounds(net), bounds(plain))


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d(16), nn.GroupNorm(4, 16)], ids=["none", "batch", "group"])
def test_a_channel_that_stands_out_is_pruned_and_no_other(norm):
    net = network(norm)
    scaled = net[0] if norm is None else net[1]
    scaled.weight.data = scaled.weight.clamp(-0.5, 0.5)
    scaled.weight.data[5] *= 60
    pruned = ChannelLipschitznessPruning().apply(net, NONE, Stream(0), SingleLabel())
    x = torch.rand(4, 2, 8, 8, generator=Stream(2).generator())
    before, after = net[:-2](x), pruned[:-2](x)
    assert float(before[:, 5].abs().max()) > 0 and not after[:, 5].any()
    others = [k for k in range(16) if k != 5]
    assert torch.equal(before[:, others], after[:, others]), "a GroupNorm's statistics stay as they are"
    higher = ChannelLipschitznessPruning(u=3.76).apply(net, NONE, Stream(0), SingleLabel())
    assert torch.equal(higher[:-2](x)[:, 5], before[:, 5]), "u decides"


def test_alike_channels_are_left_alone_and_so_is_the_model_that_was_handed_in():
    net = network(nn.GroupNorm(4, 16))
    before = copy.deepcopy(net.state_dict())
    pruned = ChannelLipschitznessPruning(u=3.7).apply(net, NONE, Stream(0), SingleLabel())
    assert all(torch.equal(before[name], t) for name, t in pruned.state_dict().items())
    ChannelLipschitznessPruning(u=0.5).apply(net, NONE, Stream(0), SingleLabel())
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


def test_a_norm_without_weights_is_silenced_through_its_mean():
    net = network(nn.BatchNorm2d(16, affine=False))
    (channels,) = hidden_channels(net, EXAMPLE, "clp")
    silenced(net, channels, torch.arange(16) == 3)
    assert not net[:-2](torch.rand(3, 2, 8, 8))[:, 3].any()


def test_a_residual_sum_keeps_its_other_half():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(128, 3)

        def forward(self, x):
            return self.head((x + self.inner(x)).flatten(1))

    net = Residual().requires_grad_(False)
    (channels,) = hidden_channels(net, EXAMPLE, "clp")
    assert (channels.layer, channels.end) == ("inner", "inner")
    silenced(net, channels, torch.ones(2, dtype=torch.bool))
    x = torch.rand(3, 2, 8, 8)
    torch.testing.assert_close(net(x), net.head(x.flatten(1)))


def test_what_can_prune_nothing_is_refused_with_the_numbers():
    clp = ChannelLipschitznessPruning()
    with pytest.raises(Refused, match=r"widest hidden layer has n = 10 \(2.85\)") as refused:
        clp.trial(network(channels=10), EXAMPLE)
    assert refused.value.remedy == "set u below 2.85, or use a layer of 11 channels"
    clp.trial(network(channels=11), EXAMPLE)
    with pytest.raises(Refused, match="no linear or convolution layer before its last"):
        clp.trial(nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), EXAMPLE)
    with pytest.raises(Refused, match="out of range"):
        ChannelLipschitznessPruning(u=0.0)


def test_int8_may_follow_it_and_it_may_not_follow_int8():
    net, records = network(), Records.of(torch.rand(40, 2, 8, 8), torch.arange(40) % 3)
    net[0].weight[5] *= 20
    pruned = ChannelLipschitznessPruning().apply(net, records, Stream(0), SingleLabel())
    int8 = StaticInt8().apply(pruned, records, Stream(0), SingleLabel())
    torch.testing.assert_close(int8(records.x), pruned(records.x), atol=0.05, rtol=0.1)
    with pytest.raises(Refused, match="before static-int8") as refused:
        ChannelLipschitznessPruning().trial(int8, records.x[:2])
    assert "put channel-lipschitzness-pruning before static-int8" in str(refused.value)
