"""Chunked per-example clipping against the loop that reads like the definition, and against Opacus."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import clipped_sum, per_example_norms
from consilium.learn.tasks.single_label import SingleLabel

CE = TaskLoss(SingleLabel())


class Block(nn.Module):
    """Conv, GroupNorm, a residual, a constant buffer, pooling, a linear layer: what real models are made of."""

    def __init__(self, channels=6):
        super().__init__()
        self.register_buffer("middle", torch.tensor(0.5))
        self.conv, self.norm = nn.Conv2d(1, channels, 3, padding=1), nn.GroupNorm(2, channels)
        self.again = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.out = nn.Linear(channels * 4, 3)

    def forward(self, x):
        h = torch.relu(self.norm(self.conv(x - self.middle)))
        return self.out(F.adaptive_avg_pool2d(h + self.again(h), 2).flatten(1))


def made(module=None, n=13, dtype=torch.float64):
    with scoped(Stream(3)):
        network = Network((module or Block()).to(dtype))
        params, buffers = network.start()
        x, y = torch.rand(n, 1, 8, 8, dtype=dtype), torch.randint(3, (n,))
    return network, params, buffers.to(dtype), {"x": x, "y": y}


def one_by_one(network, params, buffers, batch):
    """The per-example gradients, by the definition."""
    return torch.stack(
        [plain(network, params, buffers, {k: t[i : i + 1] for k, t in batch.items()}) for i in range(13)]
    )


def plain(network, params, buffers, batch):
    """The ordinary gradient of the summed losses."""
    at = params.clone().requires_grad_()
    return torch.autograd.grad(CE.losses(lambda x: network.logits(at, buffers, x), batch).sum(), at)[0]


def naive(network, params, buffers, batch, clip):
    rows = one_by_one(network, params, buffers, batch)
    return sum(g * min(1.0, clip / float(g.norm())) for g in rows)


@pytest.mark.parametrize("chunk", [None, 1, 4, 5, 13, 100])
def test_exact_against_the_definition_with_some_clipped(chunk):
    network, params, buffers, batch = made()
    rows = one_by_one(network, params, buffers, batch)
    norms = per_example_norms(network, params, buffers, CE, batch, chunk)
    torch.testing.assert_close(norms, rows.norm(dim=1), rtol=1e-12, atol=1e-12)
    clip = float(norms.median())
    assert 0 < int((norms > clip).sum()) < len(norms)
    ours = clipped_sum(network, params, buffers, CE, batch, clip, chunk).value
    torch.testing.assert_close(ours, naive(network, params, buffers, batch, clip), rtol=1e-12, atol=1e-12)


def test_clipping_the_batch_instead_is_told_apart():
    """The classic bug: scale the summed gradient once.  The comparison above must be able to see it."""
    network, params, buffers, batch = made()
    rows = one_by_one(network, params, buffers, batch)
    clip = float(rows.norm(dim=1).median())
    wrong = rows.sum(0) * min(1.0, len(rows) * clip / float(rows.sum(0).norm()))
    assert not torch.allclose(wrong, naive(network, params, buffers, batch, clip), rtol=1e-3)


def test_without_clipping_it_is_the_plain_gradient():
    network, params, buffers, batch = made()
    ours = clipped_sum(network, params, buffers, CE, batch, 1e9).value
    torch.testing.assert_close(ours, plain(network, params, buffers, batch), rtol=1e-12, atol=1e-12)


def test_an_empty_batch_sums_to_zero():
    network, params, buffers, batch = made()
    empty = {k: t[:0] for k, t in batch.items()}
    assert torch.equal(clipped_sum(network, params, buffers, CE, empty, 1.0).value, torch.zeros_like(params))
    assert per_example_norms(network, params, buffers, CE, empty).shape == (0,)


def test_agrees_with_opacus():
    network, params, buffers, batch = made(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus import GradSampleModule

        module = network.module_at(params, buffers).requires_grad_(True).train()
        wrapped = GradSampleModule(module, loss_reduction="sum")
        F.cross_entropy(wrapped(batch["x"]), batch["y"], reduction="sum").backward()
        rows = torch.cat([p.grad_sample.flatten(1) for p in wrapped.parameters()], 1)
    torch.testing.assert_close(per_example_norms(network, params, buffers, CE, batch), rows.norm(dim=1))
    clip = float(rows.norm(dim=1).median())
    weights = (clip / rows.norm(dim=1)).clamp(max=1)
    torch.testing.assert_close(clipped_sum(network, params, buffers, CE, batch, clip).value, weights @ rows)


class OneBad(TaskLoss):
    """The last class's loss has an infinite gradient."""

    def losses(self, predict, batch):
        bad = torch.where(batch["y"] == 2, float("inf"), 1.0)
        return super().losses(predict, batch) * bad


def test_a_record_whose_gradient_is_not_finite_adds_nothing():
    network, params, buffers, batch = made()
    good = {k: t[batch["y"] != 2] for k, t in batch.items()}
    assert 0 < len(good["y"]) < len(batch["y"])
    torch.testing.assert_close(
        clipped_sum(network, params, buffers, OneBad(SingleLabel()), batch, 1.0).value,
        clipped_sum(network, params, buffers, CE, good, 1.0).value,
        rtol=1e-12,
        atol=1e-12,
    )


class SeesOthers(TaskLoss):
    """Loss divided by the size of the batch it is given: in the rule's hands that is one."""

    def losses(self, predict, batch):
        return super().losses(predict, batch) / len(batch["y"])


def test_every_example_is_a_batch_of_its_own():
    network, params, buffers, batch = made()
    ours = clipped_sum(network, params, buffers, SeesOthers(SingleLabel()), batch, 1e9).value
    torch.testing.assert_close(ours, clipped_sum(network, params, buffers, CE, batch, 1e9).value)


def test_dropout_is_on_drawn_per_example_and_from_the_scope():
    network, params, buffers, batch = made(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3)))
    same = {"x": batch["x"][:1].expand(6, -1, -1, -1), "y": batch["y"][:1].expand(6)}

    def norms(seed):
        with scoped(Stream(seed)):
            return per_example_norms(network, params, buffers, CE, same)

    before = torch.random.get_rng_state()
    assert torch.equal(norms(1), norms(1))
    assert not torch.equal(norms(1), norms(2))
    assert len(norms(1).unique()) > 1
    assert torch.equal(torch.random.get_rng_state(), before)


def test_nothing_handed_in_is_changed():
    network, params, buffers, batch = made()
    kept = [params.clone(), buffers.clone(), *(t.clone() for t in batch.values())]
    template = [p.clone() for p in network.template.parameters()]
    clipped_sum(network, params, buffers, CE, batch, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(kept, [params, buffers, *batch.values()], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(template, network.template.parameters(), strict=True))
    assert all(p.grad is None for p in network.template.parameters())
    assert not network.template.training
