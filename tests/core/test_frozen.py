"""Frozen parts: what is a constant of a network, what stays in evaluation mode, and what is released."""

import pytest
import torch
from torch import nn

from consilium.core.frozen import Adapter, frozen_layers, trained_parameters, without_adapters
from consilium.core.network import Network
from consilium.core.random import Stream, scoped


def backbone():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))


def partly(freeze=True):
    """A frozen backbone with BatchNorm and Dropout, and a head that trains."""
    with scoped(Stream(3)):
        module = nn.Sequential(backbone(), nn.Flatten(), nn.Linear(4 * 36, 3))
    module[0].requires_grad_(not freeze)
    return module


def images(n=5, seed=0):
    return torch.rand(n, 1, 6, 6, generator=Stream(seed).generator())


def test_the_vectors_hold_what_trains_and_nothing_else():
    net = Network(partly())
    params, buffers = net.start()
    assert net.trained == ("2.weight", "2.bias")
    assert params.shape == (4 * 36 * 3 + 3,)
    assert buffers.shape == (0,)
    assert net.parameters == sum(p.numel() for p in partly().parameters())
    assert set(net.constants) == {f"0.{name}" for name in partly()[0].state_dict()}


def test_a_network_without_frozen_parts_has_no_constants():
    net = Network(partly(freeze=False))
    assert not net.constants
    assert not net.frozen_layers
    assert not net.partly_frozen


def test_frozen_layers_stay_in_evaluation_mode():
    """BatchNorm normalises by its own statistics and Dropout draws nothing, and neither writes anything."""
    net, x = Network(partly()), images()
    before = {name: t.clone() for name, t in net.constants.items()}
    training = net.logits(*net.start(), x, training=True)
    assert torch.equal(training, net.module_at(*net.start())(x))
    gradient, _ = net.workspace.gradient(*net.start(), lambda predict: predict(x).square().sum())
    by_hand = partly().eval()
    by_hand(x).square().sum().backward()
    assert torch.equal(gradient, torch.cat([by_hand[2].weight.grad.reshape(-1), by_hand[2].bias.grad]))
    assert all(torch.equal(before[name], t) for name, t in net.constants.items())


def test_trained_layers_are_in_training_mode():
    """The same module, unfrozen: the answers differ and the statistics move."""
    net, x = Network(partly(freeze=False)), images()
    buffers = net.start()[1]
    assert not torch.equal(net.logits(net.start()[0], buffers, x, training=True), net.module_at(*net.start())(x))
    assert not torch.equal(buffers, net.start()[1])


def test_a_layer_with_one_trained_parameter_is_not_frozen():
    module = partly()
    module[0][1].bias.requires_grad_(True)
    assert "0.1" not in frozen_layers(module)
    assert "0.0" in frozen_layers(module)
    assert Network(module).start()[1].numel() == 4 + 4 + 1


def test_tied_parameters_are_one():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    module[0].weight.requires_grad_(False)
    assert list(trained_parameters(module)) == ["0.bias", "1.bias"]


class Doubled(Adapter):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return 2 * self.layer(x)

    def plain(self):
        layer = nn.Linear(2, 2)
        layer.load_state_dict({name: 2 * t for name, t in self.layer.state_dict().items()})
        return layer


@pytest.mark.parametrize("module", [Doubled(nn.Linear(2, 2)), nn.Sequential(nn.ReLU(), Doubled(nn.Linear(2, 2)))])
def test_adapters_are_released_as_plain_layers(module):
    x, net = torch.rand(3, 2), Network(module)
    released = net.module_at(*net.start())
    assert torch.equal(released(x), module(x))
    assert not any(isinstance(layer, Adapter) for layer in released.modules())
    assert isinstance(
        next(layer for layer in without_adapters(module).modules() if isinstance(layer, nn.Linear)), nn.Linear
    )


def test_a_shadow_shares_the_constants():
    one, other = Network(partly()), Network(partly())
    with torch.no_grad():
        other.template[0][0].weight.add_(1)
        other.template[2].weight.add_(1)
    shared = one.sharing(other)
    assert torch.equal(shared.constants["0.0.weight"], other.constants["0.0.weight"])
    assert torch.equal(shared.start()[0], one.start()[0])
