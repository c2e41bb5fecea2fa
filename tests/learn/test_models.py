"""Every architecture: shapes, determinism, and that a network mutates nothing."""

from __future__ import annotations

import copy
import sys

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.learn.models.cnn import CNN
from consilium.learn.models.file import File
from consilium.learn.models.logistic import Logistic
from consilium.learn.models.mlp import MLP
from consilium.learn.models.module import Module
from consilium.learn.models.resnet9 import ResNet9

IMAGES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
ARCHITECTURES = [
    Logistic(),
    MLP(hidden=7, layers=2),
    Logistic(pool=2),
    CNN(width=3),
    ResNet9(width=2),
    ResNet9(width=2, norm="batch"),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=repr)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
def test_logits_have_one_column_per_class(architecture, shape) -> None:
    assert architecture.build(shape, 4)(torch.rand(3, *shape)).shape == (3, 4)


def test_resnet9_is_eight_convolutions_and_a_linear_layer() -> None:
    """Counted by hand: 9 c_in c_out per convolution, 2 c per norm, 16 w classes + classes."""
    w, classes = 16, 10
    module = ResNet9(width=w).build((3, 32, 32), classes)
    widths = [(3, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 2 * w), (2 * w, 4 * w), *[(4 * w, 4 * w)] * 3]
    expected = sum(9 * a * b + 2 * b for a, b in widths) + 16 * w * classes + classes
    assert sum(p.numel() for p in module.parameters()) == expected


def test_a_pooled_logistic_is_linear_in_the_means_of_squares() -> None:
    """By hand: squares of 3 x 3, of a side of 8 the first 6; the same draws, then a product with the means."""
    with scoped(Stream(0)):
        module = Logistic(pool=3).build((2, 8, 8), 4)
    x = torch.rand(5, 2, 8, 8)
    means = torch.stack([x[:, c, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].mean((1, 2))
                         for c in range(2) for i in range(2) for j in range(2)], 1)  # fmt: skip
    weight, bias = module[-1].weight, module[-1].bias
    assert weight.shape == (4, 8)
    torch.testing.assert_close(module(x), (2 * means - 1) @ weight.T + bias)


def test_a_pool_of_one_changes_nothing_that_a_study_is_named_by() -> None:
    assert Logistic().configuration() == {"kind": "logistic"} == Logistic(pool=1).configuration()
    assert Logistic(pool=2).configuration() == {"kind": "logistic", "pool": 2}
    assert [type(layer).__name__ for layer in Logistic().build((1, 8, 8), 4)] == ["Normalise", "Flatten", "Linear"]


def test_a_pool_that_does_not_fit_is_refused_with_its_number() -> None:
    with pytest.raises(Refused, match=r"squares of 9 x 9, and the pictures have 8 x 8"):
        Logistic(pool=9).build((1, 8, 8), 2)
    with pytest.raises(Refused, match=r"needs images .* \(30,\)"):
        Logistic(pool=2).build((30,), 2)
    with pytest.raises(Refused, match="pool: 0 is out of range"):
        Logistic(pool=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES[2:], ids=repr)
def test_images_are_required_by_name(architecture) -> None:
    with pytest.raises(Refused, match=r"needs images .* \(30,\)"):
        architecture.build((30,), 2)


def test_a_users_module_runs_only_when_allowed() -> None:
    with pytest.raises(Refused, match="allow-code"):
        Module("torch.nn:Identity").build((1,), 2)
    made = Module("torch.nn:Linear", {"in_features": 5, "out_features": 2}, allow_code=True).build((5,), 2)
    assert made(torch.rand(1, 5)).shape == (1, 2)
    with pytest.raises(Refused, match="cannot import"):
        Module("no.such:Thing", allow_code=True).build((1,), 2)
    with pytest.raises(Refused, match="not a torch"):
        Module("builtins:dict", allow_code=True).build((1,), 2)


def test_a_users_module_is_looked_for_in_the_current_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "a_module_of_mine.py").write_text("from torch.nn import Identity as Net\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert isinstance(Module("a_module_of_mine:Net", allow_code=True).build((5,), 5), torch.nn.Identity)
    assert sys.path == before


def test_a_file_is_not_built() -> None:
    with pytest.raises(Refused, match="read"):
        File("x.safetensors", {"kind": "mlp"}).build((1,), 2)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=repr)
def test_network_evaluates_the_module_and_changes_nothing(architecture) -> None:
    with scoped(Stream(1)):
        module = architecture.build((1, 8, 8), 3)
    x = torch.rand(5, 1, 8, 8)
    before = copy.deepcopy(module.state_dict())
    network = Network(module)
    params, buffers = network.start()
    assert torch.equal(network.logits(params, buffers, x), module.eval()(x))
    module.train()
    after = buffers.clone()
    out = network.logits(params, after, x, training=True)
    rebuilt = network.module_at(params, after)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), network.template.state_dict().values(), strict=True))
    torch.testing.assert_close(out, module(x))
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(rebuilt.state_dict()[name], tensor)
    again, again_buffers = network.flatten(rebuilt)
    assert torch.equal(again, params)
    assert torch.equal(again_buffers, after)


def test_resnet9_has_the_size_that_was_measured_for_the_seed_paper() -> None:
    """2,447,946 parameters at width 64 for 3 x 32 x 32 and ten classes."""
    module = ResNet9(width=64, groups=32).build((3, 32, 32), 10)
    assert sum(p.numel() for p in module.parameters()) == 2_447_946


def test_initialisation_follows_the_stream_alone() -> None:
    made = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        with scoped(Stream(5).child("init")):
            made.append(Network(CNN().build((1, 8, 8), 2)).start()[0])
    assert torch.equal(*made)
