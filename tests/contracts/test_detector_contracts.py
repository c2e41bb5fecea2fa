"""The contract of detectors: fitted on public records, stored exactly, calibrated, and open to an adaptive attack.

Each check has a broken entry that must fail it.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from consilium.core import catalogue
from consilium.core.detection import Detecting, detector_of
from consilium.core.errors import Failed, Refused, Unlawful
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.detection._fitted import FittedDetector
from consilium.learn.tasks.single_label import SingleLabel

ROOM = "defend/detection"
SMALL = {
    "defense-gan": {"latent": 4, "hidden": 8, "batches": 5, "steps": 4, "starts": 2},
    "learned-detector": {"hidden": 4, "epochs": 10, "steps": 2},
    "local-intrinsic-dimensionality": {"neighbours": 4, "steps": 2},
}
"""Knobs that make the same with less work."""


def records(n=80, seed=11):
    y = torch.arange(n) % 3
    x = 0.3 * torch.rand(n, 1, 8, 8, generator=Stream(seed).generator()) + 0.2 * y[:, None, None, None]
    return Records.of(x, y)


def model(seed=12):
    with scoped(Stream(seed)):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2),
            nn.ReLU(), nn.Flatten(), nn.Linear(6, 3),
        ).eval()  # fmt: skip


def defended(entry, seed=0):
    return entry.apply(model(), records(), Stream(seed), SingleLabel())


def same_seed_same_detector(card, entry, contract):
    x = records().x
    one, other = defended(entry), defended(entry)
    assert torch.equal(one.suspicion(x), other.suspicion(x)) and torch.equal(one.threshold, other.threshold)


def touches_nothing(card, entry, contract):
    net, public = model(), records()
    with contract.untouched(net, public.x, public.y):
        detecting = entry.apply(net, public, Stream(0), SingleLabel())
        detecting.suspicion(public.x)


def is_stored_exactly(card, entry, contract):
    """Answers, suspicions and threshold come from the artefact: rebuilt around a model with other weights."""
    first, x = defended(entry), records().x
    stored = load(save({name: t.contiguous() for name, t in entry.pack(first).items()}))
    again = entry.unpack(entry.structure(model(seed=99), x[:1]), stored)
    assert torch.equal(again(x), first(x)) and torch.equal(again.suspicion(x), first.suspicion(x))
    assert torch.equal(again.rejects(x), first.rejects(x))


def fits_on_public_records_alone(card, entry, contract):
    """None are refused, and so are too few for the stated share of false positives, with the numbers."""
    assert entry.fits_public()
    for n in (0, 12):
        with pytest.raises(Unlawful) as refused:
            entry.apply(model(), records().select(torch.arange(n)), Stream(0), SingleLabel())
        assert "data.public" in refused.value.remedy and "(LAWS 10)" in str(refused.value)
        assert n == 0 or str(n) in str(refused.value)


def keeps_its_rate(card, entry, contract):
    """Of fresh records of the same distribution about the stated share is rejected, far from most of them."""
    rejected = float(defended(entry).rejects(records(300, seed=5).x).float().mean())
    assert rejected <= 0.2


def judges_each_input_alone(card, entry, contract):
    detecting, x = defended(entry), records().x[:9]
    together, alone = detecting.suspicion(x), torch.cat([detecting.suspicion(one[None]) for one in x])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(detecting(x), torch.cat([detecting(one[None]) for one in x]), rtol=1e-3, atol=1e-4)


def can_be_attacked_adaptively(card, entry, contract):
    """The stand-in answers and suspects alike, and both have a gradient in the input."""
    first, x = defended(entry), records().x.requires_grad_()
    surrogate = entry.surrogate(first, model())
    suspicion = detector_of(surrogate).suspicion(x)
    for out in (surrogate(x)[:, 0], suspicion):
        (gradient,) = torch.autograd.grad(out.sum(), x)
        assert gradient.isfinite().all() and float(gradient.abs().max()) > 0
    torch.testing.assert_close(surrogate(x).detach(), first(x.detach()))
    torch.testing.assert_close(suspicion.detach(), first.suspicion(x.detach()))
    answers, both = first.answered(x.detach())
    assert torch.equal(answers, first(x.detach())) and torch.equal(both, first.suspicion(x.detach()))


def documented(card, entry, contract):
    contract.documented(card)
    contract.round_trips(entry)


CHECKS = [
    same_seed_same_detector,
    touches_nothing,
    is_stored_exactly,
    fits_on_public_records_alone,
    keeps_its_rate,
    judges_each_input_alone,
    can_be_attacked_adaptively,
    documented,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("card", catalogue.cards(ROOM), ids=lambda c: c.kind)
def test_every_detector(card, check, contract):
    check(card, catalogue.load_entry(card)(**SMALL.get(card.kind, {})), contract)


@dataclass(frozen=True)
class Broken(FittedDetector):
    """Suspects bright inputs, broken in one place at a time."""

    flaw: str = ""

    def fit(self, model, records, stream, task):
        if self.flaw == "global":
            torch.rand(1)
        if self.flaw == "seed":
            return {"scale": torch.rand(())}
        return {"scale": torch.ones(())}

    def fits_public(self):
        return self.flaw != "public"

    def detecting(self, model, fitted):
        return Bright(model, fitted, self.flaw)

    def pack(self, module):
        packed = super().pack(module)
        return {**packed, "detector.scale": 2 * packed["detector.scale"]} if self.flaw == "stored" else packed

    def apply(self, module, public, stream, task):
        detecting = super().apply(module, public, stream, task)
        if self.flaw == "records":
            public.x.add_(1e-3)
        if self.flaw == "rate":
            detecting.threshold.fill_(-1)
        return detecting

    def configuration(self):
        return {**super().configuration(), "flaw": ""} if self.flaw == "configuration" else super().configuration()


class Bright(Detecting):
    def __init__(self, model, fitted, flaw):
        super().__init__(model, fitted)
        self.flaw = flaw

    def suspicion(self, x):
        bright = x.flatten(1).mean(1) * self.scale
        if self.flaw == "company":
            return bright - bright.mean()
        return bright.detach().clone() + 0 * x.flatten(1).sum(1) if self.flaw == "hidden" else bright


CARD = catalogue.Card("broken", ROOM, "detection", "Breaks one clause.", "This file.", {}, __name__, "Broken")
FLAWS = [
    (same_seed_same_detector, "seed"),
    (touches_nothing, "global"),
    (touches_nothing, "records"),
    (is_stored_exactly, "stored"),
    (fits_on_public_records_alone, "public"),
    (keeps_its_rate, "rate"),
    (judges_each_input_alone, "company"),
    (can_be_attacked_adaptively, "hidden"),
    (documented, "configuration"),
]


@pytest.mark.parametrize(("check", "flaw"), FLAWS, ids=lambda v: getattr(v, "__name__", v))
def test_a_broken_detector_fails(check, flaw, contract):
    with pytest.raises((AssertionError, Failed, Refused, pytest.fail.Exception)):
        check(CARD, Broken(flaw=flaw), contract)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_same_detector_unbroken_passes(check, contract):
    """So it is the flaw that fails, and every clause has one."""
    check(CARD, Broken(), contract)
    assert check in {c for c, _ in FLAWS}


def test_an_undocumented_detector_fails(contract):
    with pytest.raises(AssertionError):
        documented(replace(CARD, source=""), Broken(), contract)
