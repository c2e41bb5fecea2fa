"""Shokri's attack models: one per class, taught by shadows; a class that shadows say little of learns from all."""

import pytest
import torch

from consilium.attack.membership.shokri import Shokri
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.threat import RetrainView, Shadow
from consilium.learn.tasks.single_label import SingleLabel


class Knowing(torch.nn.Module):
    """Answers what it knows surely if it is of class 0, and with a doubt, of all things, if it is of class 1."""

    def __init__(self, known, y):
        super().__init__()
        self.known, self.y = known, y

    def forward(self, x):
        at = x[:, 0].long()
        sure = torch.where(self.known[at] == (self.y[at] == 0), 6.0, 2.0)
        return torch.nn.functional.one_hot(self.y[at], 3) * sure[:, None]


def view(n=600, rare=0):
    g = torch.Generator().manual_seed(0)
    y = torch.randint(2, (n,), generator=g)
    y[:rare] = 2
    records = Records.of(torch.arange(n)[:, None].float(), y)
    member, places = torch.rand(n, generator=g) < 0.5, torch.arange(n)
    model = Knowing(member, y)
    return RetrainView(
        *(3, model, records, member, torch.rand(n, generator=g) < 0.5),
        pool=records,
        site=torch.zeros(n, dtype=torch.long),
        sizes=torch.tensor([n // 2]),
        at=places,
        retrain=lambda masks, seeds: [_shadow(records, mask) for mask in masks],
        stream=Stream(0),
        task=SingleLabel(),
    )


def _shadow(records, mask):
    model = Knowing(mask, records.y)
    return Shadow(3, model, model, records, included=mask, task=SingleLabel())


def test_each_class_has_a_model_of_its_own():
    """What betrays a member of class 0 clears one of class 1: a single rule for both tells nothing."""
    assert Shokri(shadows=4)(view(), {}, torch.Generator())["auc"].low > 0.95


def test_a_rare_class_learns_from_all():
    finding = Shokri(shadows=2)(view(rare=4), {}, torch.Generator())
    assert finding.scores["score"].isfinite().all()


def test_shadows_that_included_something_else_teach_nothing():
    seen = view()
    lying = [mask.roll(7) for mask in torch.stack([s.included for s in seen.shadows(4)])]
    object.__setattr__(
        seen, "retrain", lambda m, s: [_Mismatched.of(seen.pool, mask, lie) for mask, lie in zip(m, lying, strict=True)]
    )
    found = Shokri(shadows=4)(seen, {}, torch.Generator())["auc"]
    assert found.low < 0.6


class _Mismatched:
    @staticmethod
    def of(records, mask, lie):
        model = Knowing(mask, records.y)
        return Shadow(3, model, model, records, included=lie, task=SingleLabel())


@pytest.mark.parametrize("knobs", [{"shadows": 1}, {"examples": 10}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused):
        Shokri(**knobs)
