"""One perturbation for all records: learned on some, judged on others."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion.pgd import PGD
from consilium.attack.evasion.universal import Universal
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.single_label import SingleLabel


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


class Slope(nn.Module):
    """Class 1 where the sum of four features is above 2."""

    def forward(self, x):
        total = x.flatten(1).sum(1) - 2
        return torch.stack([torch.zeros_like(total), 10 * total], 1)


def view_of(margins, label=1):
    x = (0.5 + torch.tensor(margins) / 4)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    targets = Records.of(x, torch.full((len(x),), label))
    return ModelView(2, Slope(), Slope(), targets, task=SingleLabel())


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.05), ("l2", 0.1), ("l1", 0.2)])
def test_on_a_plane_it_is_the_best_perturbation_there_is(norm, radius):
    """The plane is lost up to a margin of 4 x .05, 2 x .1 and .2 alike."""
    margins = [0.05, 0.1, 0.15, 0.18, 0.19, 0.21, 0.25, 0.3]
    finding = run(Universal(norm=norm, radius=radius), view_of(margins))
    assert finding.scores["correct"].tolist() == [False] * 5 + [True] * 3
    assert finding.notes == ("Two perturbations, learned on 4 and 4 test records, each judged on the others.",)


def test_it_is_one_perturbation_for_each_half(view):
    """Every other record gets the same change, but for what [0, 1] cuts off."""
    attack = Universal(radius=0.1, epochs=2)
    x, y = view.targets.x, view.targets.y
    delta = attack.craft(view, x, y, torch.Generator().manual_seed(0)) - x
    inside = (x > 0.1) & (x < 0.9)
    for half in (0, 1):
        rows, free = delta[half::2], inside[half::2]
        high, low = rows.masked_fill(~free, -1).amax(0), rows.masked_fill(~free, 1).amin(0)
        seen = free.any(0)
        assert torch.allclose(high[seen], low[seen], atol=1e-6)
    assert not torch.allclose(delta[0], delta[1], atol=1e-3)


def test_it_is_judged_on_records_that_it_was_not_learned_on(view):
    """Labels of one half are replaced: the other half's perturbation changes, its own figures do not depend on it."""
    attack = Universal(radius=0.1, epochs=2)
    x, y = view.targets.x[:100], view.targets.y[:100]
    crafted = attack.craft(view, x, y, torch.Generator().manual_seed(0))
    other = y.clone()
    other[0::2] = (other[0::2] + 1) % 10
    changed = attack.craft(view, x, other, torch.Generator().manual_seed(0))
    assert torch.equal(crafted[0::2], changed[0::2]) and not torch.equal(crafted[1::2], changed[1::2])


def test_it_is_between_chance_and_a_perturbation_for_each_record(view):
    universal, single = run(Universal(radius=0.2), view), run(PGD(radius=0.2), view)
    signs = 0.4 * torch.randint(2, view.targets.x[:1].shape, generator=torch.Generator().manual_seed(0)) - 0.2
    with torch.no_grad():
        chance = (view.module((view.targets.x + signs).clamp(0, 1)).argmax(1) == view.targets.y).double().mean()
    figure = universal["robust_accuracy"].value
    assert float(chance) - 0.2 > figure >= single["robust_accuracy"].value
    assert universal["robust_accuracy"].n == len(view.targets) == 397  # two batches, the second with an odd start


def test_a_target_takes_records_of_every_other_class(view):
    finding = run(Universal(radius=0.3, goal="targeted", target=8), view)
    assert finding["success_rate"].value > 0.6
    assert finding["success_rate"].n <= int((view.targets.y != 8).sum())


def test_one_record_is_refused():
    with pytest.raises(Refused, match="no record to learn from: 1 of 1 test records"):
        run(Universal(), view_of([0.1]))
    view = view_of([0.1, 0.2])
    with pytest.raises(Refused, match="0 of 2 test records"):
        run(Universal(goal="targeted", target=1), view)


def test_without_a_surrogate_nothing_is_learned(view):
    finding = run(Universal(), replace(view, surrogate=None))
    assert all(m.value is None for m in finding.measures) and not finding.scores


@pytest.mark.parametrize("knobs", [{"radius": 0.0}, {"epochs": 0}, {"batch": 0}])
def test_a_knob_out_of_range_is_refused(knobs):
    with pytest.raises(Refused, match="out of range"):
        Universal(**knobs)
