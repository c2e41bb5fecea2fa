"""Pruning: the right weights, the right number, real bytes, and fine-tuning that keeps the zeros."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Failed, Refused
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.model._sparse import _packed, _unpacked
from consilium.defend.model.prune import Prune
from consilium.defend.model.static_int8 import StaticInt8
from consilium.learn.tasks.single_label import SingleLabel


def module(norm=False, seed=0):
    with scoped(Stream(seed)):
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4) if norm else nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(144, 3)).eval().requires_grad_(False)


def public(n=90):
    """Three kinds of image, told apart by where they are bright."""
    g = Stream(1).generator()
    y = torch.arange(n) % 3
    x = 0.3 * torch.rand(n, 1, 8, 8, generator=g)
    for c in range(3):
        x[y == c, :, :, 2 * c : 2 * c + 3] += 0.6
    return Records.of(x, y)


def weights(net):
    return torch.cat([p.flatten() for p in net.parameters() if p.dim() >= 2])


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_exactly_the_smallest_weights_of_the_whole_model_go(sparsity):
    net = module()
    before, after = weights(net), weights(Prune(sparsity, 0).apply(net, public(), Stream(0), SingleLabel()))
    gone = round(sparsity * len(before))
    assert int((after == 0).sum()) == gone
    assert torch.equal(after, before.where(before.abs() >= before.abs().sort().values[gone], torch.zeros(())))


def test_biases_and_norms_stay():
    net = module()
    pruned = Prune(0.9, 0).apply(net, public(), Stream(0), SingleLabel())
    for before, after in zip(net.parameters(), pruned.parameters(), strict=True):
        assert before.dim() >= 2 or torch.equal(before, after)


def test_fine_tuning_keeps_the_zeros_and_lowers_the_loss():
    net, records = module(), public()
    cut = Prune(0.8, 0).apply(net, records, Stream(0), SingleLabel())
    tuned = Prune(0.8, 60, lr=0.05).apply(net, records, Stream(0), SingleLabel())
    assert torch.equal(weights(cut) == 0, weights(tuned) == 0)
    assert F.cross_entropy(tuned(records.x), records.y) < 0.5 * F.cross_entropy(cut(records.x), records.y)


@pytest.mark.parametrize("norm", [False, True])
def test_stored_and_rebuilt_it_answers_the_same_bits(norm):
    net, records = module(norm), public()
    pruned = Prune(0.9, 3).apply(net, records, Stream(0), SingleLabel())
    stored = load(save(Prune().pack(pruned)))
    again = Prune().unpack(Prune().structure(module(norm, seed=8), records.x[:1]), stored)
    assert torch.equal(again(records.x), pruned(records.x))
    assert not torch.equal(module(norm, seed=8)(records.x), pruned(records.x))


def test_the_artefact_is_kept_values_and_one_bit_per_weight():
    net = module()
    packed = Prune().pack(Prune(0.9, 0).apply(net, public(), Stream(0), SingleLabel()))
    n = len(weights(net))
    assert packed["kept"].numel() == n - round(0.9 * n)
    assert (packed["mask"].dtype, packed["mask"].numel()) == (torch.uint8, -(-n // 8))
    assert sum(t.numel() * t.element_size() for t in packed.values()) < 0.25 * 4 * n


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=70))
def test_bits_survive_packing(bits):
    flags = torch.tensor(bits, dtype=torch.bool)
    assert torch.equal(_unpacked(_packed(flags), len(bits)), flags)


def test_it_goes_before_int8_and_is_kept_by_it():
    net, records = module(), public()
    pruned = Prune(0.9, 0).apply(net, records, Stream(0), SingleLabel())
    both = StaticInt8().apply(pruned, records, Stream(0), SingleLabel())
    codes = StaticInt8().pack(both)["int8"]
    assert int((codes == 0).sum()) >= int((weights(pruned) == 0).sum())
    with pytest.raises(Refused, match="no float weights"):
        Prune().apply(both, records, Stream(0), SingleLabel())


def test_without_public_records_there_is_no_fine_tuning():
    none = public().select(torch.zeros(90, dtype=torch.bool))
    with pytest.raises(Refused, match="public") as refused:
        Prune().apply(module(), none, Stream(0), SingleLabel())
    assert "data.public" in refused.value.remedy
    assert Prune().fits_public()
    assert not Prune(fine_tune_steps=0).fits_public()
    Prune(fine_tune_steps=0).apply(module(), none, Stream(0), SingleLabel())


def test_divergence_is_an_error_not_a_model():
    with pytest.raises(Failed, match="diverged"):
        linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).requires_grad_(False)
        Prune(0.5, 60, lr=99.0).apply(linear, Records.of(public().x * 1e20, public().y), Stream(0), SingleLabel())


def test_a_layer_that_would_lose_every_weight_is_an_error():
    net = module()
    net[4].weight.mul_(1e-3)
    with pytest.raises(Failed, match=r"4\.weight without a weight"):
        Prune(0.98, 0).apply(net, public(), Stream(0), SingleLabel())


def test_a_foreign_artefact_is_refused():
    packed = Prune().pack(Prune(0.9, 0).apply(module(), public(), Stream(0), SingleLabel()))
    with pytest.raises(Refused, match="does not fit"):
        Prune().unpack(nn.Linear(5, 3), packed)


def test_the_surrogate_is_the_pruned_model():
    pruned = Prune(0.5, 0).apply(module(), public(), Stream(0), SingleLabel())
    assert Prune().surrogate(pruned, None) is pruned


@pytest.mark.parametrize("knobs", [{"sparsity": 0.0}, {"sparsity": 1.0}, {"fine_tune_steps": -1}, {"lr": 0.0}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused, match="out of range"):
        Prune(**knobs)


class Ungraded(nn.Module):
    """A head on a layer that no gradient reaches; with ``whole``, none reaches the head either."""

    def __init__(self, whole):
        super().__init__()
        self.backbone, self.head, self.whole = nn.Linear(64, 16), nn.Linear(16, 3), whole

    def forward(self, x):
        out = self.head(self.backbone(x.flatten(1)).detach())
        return out.detach() if self.whole else out


def test_a_layer_without_a_gradient_is_pruned_and_not_fine_tuned():
    made = Ungraded(whole=False)
    pruned = Prune(sparsity=0.5, fine_tune_steps=3).apply(made, public(), Stream(0), SingleLabel())
    kept = pruned.backbone.weight != 0
    assert torch.equal(pruned.backbone.weight[kept], made.backbone.weight[kept])
    assert not torch.equal(pruned.head.bias, made.head.bias)


def test_a_model_that_cannot_be_fine_tuned_is_refused_before_training():
    x = torch.rand(2, 1, 8, 8)
    with pytest.raises(Refused, match="prune fine-tunes the model, and no gradient reaches its parameters"):
        Prune().trial(Ungraded(whole=True), x)
    Prune(fine_tune_steps=0).trial(Ungraded(whole=True), x)
    Prune().trial(Ungraded(whole=False), x)


class Tied(nn.Module):
    """The same matrix twice, under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.head = nn.Linear(64, 3)
        self.again.weight = self.first.weight

    def forward(self, x):
        return self.head(torch.relu(self.again(torch.relu(self.first(x.flatten(1))))))


def test_tied_weights_are_stored_once():
    """They were stored whole under their second name: nine tenths zeros, and no smaller file."""
    with scoped(Stream(0)):
        net = Tied().eval().requires_grad_(False)
    defence, x = Prune(0.9, 0), public().x
    pruned = defence.apply(net, public(), Stream(0), SingleLabel())
    stored = defence.pack(pruned)
    assert sum(t.numel() * t.element_size() for t in stored.values()) < 0.15 * 4 * (64 * 64 + 64 * 3 + 3)
    back = defence.unpack(net, load(save(stored)))
    assert torch.equal(back(x), pruned(x)) and back.again.weight is back.first.weight
    apart = Tied().eval().requires_grad_(False)
    apart.again.weight = nn.Parameter(net.first.weight.clone(), requires_grad=False)
    assert len(defence.pack(apart)["kept"]) == 2 * 64 * 64 + 64 * 3
