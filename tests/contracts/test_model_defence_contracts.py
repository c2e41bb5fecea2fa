"""The contract of model defences: what is released is stored exactly, smaller, and open to an adaptive attack.

Each check has a broken entry that must fail it.
"""

from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from consilium.core import catalogue
from consilium.core.defence import ModelDefence
from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.learn.tasks.single_label import SingleLabel

KNOBS = {
    "prune": {"sparsity": 0.5, "fine_tune_steps": 3},
    "fine-pruning": {"fine_tune_steps": 3},
    "adversarial-neuron-pruning": {"steps": 3},
    "neural-cleanse": {"steps": 5, "index": 0.01, "unlearn_steps": 3},
}
ENTRIES = [catalogue.load_entry(card)(**KNOBS.get(card.kind, {})) for card in catalogue.cards("defend/model")]


def records(n=40):
    return Records.of(torch.rand(n, 1, 12, 12, generator=Stream(11).generator()), torch.arange(n) % 3)


def model(seed=12):
    with scoped(Stream(seed)):
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 3),
        )  # fmt: skip
        network = Network(net)
        params, buffers = network.start()
        return network.module_at(params + 0.02 * torch.randn_like(params), buffers)


def defended(defence):
    return defence.apply(model(), records(), Stream(0), SingleLabel())


def is_stored_exactly(defence):
    """Everything comes from the artefact: it is rebuilt around a model with other weights."""
    made, x = defended(defence), records().x
    stored = load(save(defence.pack(made)))
    again = defence.unpack(defence.structure(model(seed=99), x[:1]), stored)
    assert torch.equal(again(x), made(x))


def is_smaller_than_fp32(defence):
    full = len(save({k: t.contiguous() for k, t in model().state_dict().items()}))
    assert len(save(defence.pack(defended(defence)))) < full


def fits_only_on_public_records(defence):
    none = records().select(torch.zeros(40, dtype=torch.bool))
    if not defence.fits_public():
        defence.apply(model(), none, Stream(0), SingleLabel())
        return
    with pytest.raises(Refused) as refused:
        defence.apply(model(), none, Stream(0), SingleLabel())
    assert "data.public" in refused.value.remedy


def can_be_attacked_adaptively(defence):
    """A surrogate, where there is one, answers like the defended model and has a gradient."""
    made, x = defended(defence), records().x.requires_grad_()
    surrogate = defence.surrogate(made, model())
    if surrogate is None:
        return
    out = surrogate(x)
    (gradient,) = torch.autograd.grad(out[:, 0].sum(), x)
    assert float(gradient.abs().max()) > 0
    torch.testing.assert_close(out.detach(), made(x.detach()))


CHECKS = [is_stored_exactly, is_smaller_than_fp32, fits_only_on_public_records, can_be_attacked_adaptively]


@pytest.mark.parametrize("defence", ENTRIES, ids=lambda d: d.kind())
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_contract(check, defence):
    check(defence)


@dataclass(frozen=True)
class Bloated(ModelDefence):
    """Stores everything twice and reads nothing back, fits on nothing though it says so, hides its gradient."""

    def fits_public(self):
        return True

    def apply(self, module, public, stream, task):
        return module

    def pack(self, module):
        state = {k: t.contiguous() for k, t in module.state_dict().items()}
        return {**{k: t * 1.0 for k, t in state.items()}, **{f"{k}.again": t for k, t in state.items()}}

    def structure(self, module, example):
        return module

    def unpack(self, module, artefact):
        return module

    def surrogate(self, defended, before):
        return Flat()


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] * 0


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_a_broken_entry_fails(check):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(Bloated())
