"""Units, clipping styles, sensitivity, and real models against Opacus."""

import math
import warnings

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.gradient import Objective
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.workspace import Compute
from consilium.learn.models.cnn import CNN
from consilium.learn.models.resnet9 import ResNet9
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import clipped_sum, dispatch, per_example_norms
from consilium.learn.per_example.bookkeeping import BookKeeping
from consilium.learn.per_example.by_vmap import ByVmap
from consilium.learn.per_example.clipping import GAMMA
from consilium.learn.tasks.single_label import SingleLabel

CE = TaskLoss(SingleLabel())
UNIT = torch.tensor([7, 2, 7, 7, 40, 2, 9])


def small():
    layers = (
        nn.Conv2d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    )
    return nn.Sequential(*layers)


def made(module, shape, n, dtype=torch.float64, seed=5, **knobs):
    with scoped(Stream(seed)):
        network = Network(module.to(dtype), Compute(**knobs))
        params, buffers = network.start()
        batch = {"x": torch.rand(n, *shape, dtype=dtype), "y": torch.randint(3, (n,))}
    return network, params, buffers.to(dtype), batch


@pytest.fixture(params=["book-keeping", "vmap"])
def setting(request):
    network, params, buffers, batch = made(small(), (1, 6, 6), len(UNIT))
    if request.param == "vmap":
        dispatch._known[network] = ByVmap(network)
    return network, params, buffers, batch


def rows(network, params, buffers, batch):
    """The per-example gradients ``(n, d)``, by plain autograd."""
    found = []
    for i in range(len(batch["x"])):
        at = params.clone().requires_grad_()
        one = {name: t[i : i + 1] for name, t in batch.items()}
        found.append(torch.autograd.grad(CE.losses(lambda x, at=at: network.logits(at, buffers, x), one).sum(), at)[0])
    return torch.stack(found)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 1, 3, 4])
def test_a_unit_is_the_mean_of_its_records_clipped_once(setting, chunk):
    network, params, buffers, batch = setting
    each = rows(*setting)
    means = torch.stack([each[u == UNIT].mean(0) for u in UNIT.unique()])
    norms = per_example_norms(network, params, buffers, CE, batch, chunk, unit=UNIT)
    close(norms, means.norm(dim=1))
    clip = float(norms.median())
    factor = (clip / means.norm(dim=1)).clamp(max=1)
    assert 0 < int((factor < 1).sum()) < len(factor)
    ours = clipped_sum(network, params, buffers, CE, batch, clip, chunk, unit=UNIT).value
    close(ours, factor @ means)
    by_record = clipped_sum(network, params, buffers, CE, batch, clip, chunk).value
    assert not torch.allclose(ours, by_record, rtol=1e-2), "clipping records instead would have passed"


def test_units_of_one_record_are_examples_and_must_number_them_all(setting):
    network, params, buffers, batch = setting
    alone = torch.tensor([5, 4, 3, 2, 1, 0, 6])
    close(
        clipped_sum(network, params, buffers, CE, batch, 0.5, unit=alone).value,
        clipped_sum(network, params, buffers, CE, batch, 0.5).value,
    )
    close(
        per_example_norms(network, params, buffers, CE, batch, unit=alone)[alone],
        per_example_norms(network, params, buffers, CE, batch),
    )
    for wrong in (alone[:3], alone.double()):
        with pytest.raises(Refused, match="one whole number for each of 7"):
            clipped_sum(network, params, buffers, CE, batch, 0.5, unit=wrong)
    empty = {name: t[:0] for name, t in batch.items()}
    nothing = clipped_sum(network, params, buffers, CE, empty, 1.0, unit=alone[:0]).value
    assert torch.equal(nothing, torch.zeros_like(params))


def test_per_layer_style_gives_each_layer_its_share(setting):
    network, params, buffers, batch = setting
    each, layers = rows(*setting), torch.split(params, [40, 8, 520, 27])
    pieces = torch.split(each, [len(p) for p in layers], dim=1)
    share = float(torch.stack([p.norm(dim=1) for p in pieces]).median())
    clip = share * math.sqrt(len(layers))
    clipped = [(share / p.norm(dim=1)).clamp(max=1)[:, None] * p for p in pieces]
    hit = torch.stack([p.norm(dim=1) > share for p in pieces])
    assert 0 < int(hit.sum()) < hit.numel()
    close(clipped_sum(network, params, buffers, CE, batch, clip, style="per-layer").value, torch.cat(clipped, 1).sum(0))


def test_automatic_style_scales_every_gradient(setting):
    network, params, buffers, batch = setting
    each = rows(*setting)
    close(
        clipped_sum(network, params, buffers, CE, batch, 0.3, style="automatic").value,
        (0.3 / (each.norm(dim=1) + GAMMA)) @ each,
    )


@pytest.mark.parametrize("style", ["flat", "per-layer", "automatic"])
@pytest.mark.parametrize("unit", [None, UNIT])
def test_one_example_or_unit_moves_the_sum_by_at_most_the_clip(setting, style, unit):
    network, params, buffers, batch = setting
    whole = clipped_sum(network, params, buffers, CE, batch, 0.1, style=style, unit=unit).value
    for gone in range(len(UNIT)):
        left = torch.arange(len(UNIT)) != gone if unit is None else unit != unit[gone]
        rest = {name: t[left] for name, t in batch.items()}
        without = clipped_sum(
            network, params, buffers, CE, rest, 0.1, style=style, unit=None if unit is None else unit[left]
        ).value
        assert 0 < float((whole - without).norm()) <= 0.1 * (1 + 1e-9)


def test_an_unknown_style_is_refused(setting):
    network, params, buffers, batch = setting
    with pytest.raises(Refused, match="per-layer"):
        clipped_sum(network, params, buffers, CE, batch, 1.0, style="adaptive")


class Views(Objective):
    """Asks twice: about an example, and about two altered copies at once."""

    def losses(self, predict, batch):
        pair = predict(torch.cat([batch["x"].flip(-1), batch["x"] * 0.5]))
        return CE.losses(predict, batch) + pair.square().mean() * batch["y"]


def test_an_objective_may_ask_more_than_once(setting):
    network, params, buffers, batch = setting
    found = []
    for i in range(len(UNIT)):
        at = params.clone().requires_grad_()
        one = {name: t[i : i + 1] for name, t in batch.items()}
        loss = Views().losses(lambda x, at=at: network.logits(at, buffers, x), one)
        found.append(torch.autograd.grad(loss.sum(), at)[0])
    each = torch.stack(found)
    close(per_example_norms(network, params, buffers, Views(), batch), each.norm(dim=1))
    means = torch.stack([each[u == UNIT].mean(0) for u in UNIT.unique()])
    close(per_example_norms(network, params, buffers, Views(), batch, unit=UNIT), means.norm(dim=1))


MODELS = {
    "cnn": (CNN(8), (1, 12, 12), {}),
    "resnet9": (ResNet9(width=4, groups=2), (3, 16, 16), {"layout": "channels-last"}),
}


@pytest.mark.parametrize("kind", MODELS)
def test_agrees_with_opacus_where_some_are_clipped(kind):
    built, shape, knobs = MODELS[kind]
    network, params, buffers, batch = made(built.build(shape, 3), shape, 9, **knobs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus import GradSampleModule

        module = network.module_at(params, buffers).requires_grad_(True).train()
        wrapped = GradSampleModule(module, loss_reduction="sum")
        CE.losses(wrapped, batch).sum().backward()
        each = torch.cat([p.grad_sample.flatten(1) for p in wrapped.parameters()], 1)
    norms = per_example_norms(network, params, buffers, CE, batch)
    assert isinstance(dispatch._known[network], BookKeeping)
    torch.testing.assert_close(norms, each.norm(dim=1), rtol=1e-10, atol=1e-12)
    clip = float(norms.median())
    expected = (clip / each.norm(dim=1)).clamp(max=1) @ each
    ours = clipped_sum(network, params, buffers, CE, batch, clip).value
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_under_bfloat16_the_norm_is_of_the_gradient_that_is_summed():
    network, params, buffers, batch = made(small(), (1, 6, 6), 8, torch.float32, precision="bf16")
    assert per_example_norms(network, params, buffers, CE, batch).shape == (8,)
    assert isinstance(dispatch._known[network], BookKeeping)
    for i in range(8):
        one = {name: t[i : i + 1] for name, t in batch.items()}
        assert float(clipped_sum(network, params, buffers, CE, one, 0.01).value.norm()) == pytest.approx(0.01, rel=1e-5)


def test_the_same_call_gives_the_same_bits():
    network, params, buffers, batch = made(CNN(8).build((1, 12, 12), 3), (1, 12, 12), 9, torch.float32)
    first = clipped_sum(network, params, buffers, CE, batch, 0.1).value
    again, *_ = made(CNN(8).build((1, 12, 12), 3), (1, 12, 12), 9, torch.float32)
    assert torch.equal(first, clipped_sum(network, params, buffers, CE, batch, 0.1).value)
    assert torch.equal(first, clipped_sum(again, params, buffers, CE, batch, 0.1).value)
