"""RMIA on toys whose ratios are known by hand, and its order where every record has a level of its own."""

import pytest
import torch

from consilium.attack.membership._ratios import favour, share_below
from consilium.attack.membership.rmia import RMIA
from consilium.core.errors import Refused
from consilium.measure.ranking import auc

HELD = torch.tensor([[0.9, 0.2], [0.7, 0.4], [0.3, 0.6], [0.1, 0.8]]).double()
INSIDE = torch.tensor([[True, False], [True, False], [False, True], [False, True]])


def test_online_the_usual_answer_is_half_in_half_out():
    """Record 0: in .8, out .2, so .5; record 1: in .7, out .3, so .5."""
    assert favour(torch.tensor([0.8, 0.25]).double(), HELD, INSIDE).tolist() == pytest.approx([1.6, 0.5])


def test_offline_the_in_half_is_made_up_from_the_out_half():
    """Pr = ((1 + a) out + 1 - a) / 2: at a = 0 those in would be certain, at 1 no better than those out."""
    target = torch.tensor([0.8, 0.3]).double()
    assert favour(target, HELD, INSIDE, 0.0).tolist() == pytest.approx([0.8 / 0.6, 0.3 / 0.65])
    assert favour(target, HELD, INSIDE, 1.0).tolist() == pytest.approx([0.8 / 0.2, 0.3 / 0.3])


def test_the_score_counts_who_is_favoured_less():
    population = torch.tensor([0.5, 1.0, 1.5, 2.0])
    assert share_below(torch.tensor([0.4, 1.0, 1.7, 9.0]), population, 1.0).tolist() == [0, 0.5, 0.75, 1]
    assert share_below(torch.tensor([1.0, 3.9, 4.0]), population, 2.0).tolist() == [0.25, 0.75, 1]


def test_it_tells_members_where_one_threshold_cannot():
    """Records are easy or hard; those that a model saw are answered a tenth better."""
    g = torch.Generator().manual_seed(0)
    easy = 0.1 + 0.7 * torch.rand(4000, generator=g, dtype=torch.float64)
    included, member = torch.rand(32, 4000, generator=g) < 0.5, torch.rand(4000, generator=g) < 0.5
    held = easy * (1 + 0.1 * included) + 0.01 * torch.randn(32, 4000, generator=g, dtype=torch.float64)
    target = easy * (1 + 0.1 * member) + 0.01 * torch.randn(4000, generator=g, dtype=torch.float64)
    for a in (None, 1.0):  # at 1 a record is hardly more probable to those who saw it: as here
        ratio = favour(target, held, included, a)
        found = auc(share_below(ratio, ratio[~member][:500], 1.0), member)
        assert found > auc(target, member) + 0.1, a
    assert auc(target, member) < 0.6


def test_a_record_that_all_or_no_shadows_knew_is_finite():
    everywhere = torch.tensor([[True, False]] * 4)
    assert favour(torch.tensor([0.5, 0.5]).double(), HELD, everywhere).isfinite().all()


def test_the_population_is_known_to_be_out(retrain_view):
    """Without a known non-member there is no population."""
    view = retrain_view()
    object.__setattr__(view, "known", view.member)
    with pytest.raises(Refused, match="no non-members to be the population"):
        RMIA(shadows=2)(view, {}, torch.Generator())


@pytest.mark.parametrize("knobs", [{"shadows": 1}, {"gamma": 0.0}, {"a": 1.1}, {"population": 0}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused):
        RMIA(**knobs)
