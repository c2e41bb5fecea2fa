"""Masks of shadow trainings: sizes, balance, units, prefixes, and no word of who was a member."""

import pytest
import torch

from consilium.core.inclusion import inclusion
from consilium.core.random import Stream


def masks(p, size, count, seed=0, units=None):
    units = torch.arange(p) if units is None else units
    return inclusion(torch.zeros(p, dtype=torch.long), torch.tensor([size]), units, count, Stream(seed))


@pytest.mark.parametrize(("p", "size"), [(40, 20), (41, 20), (40, 31), (40, 8), (3, 1)])
def test_every_shadow_is_as_large_as_the_target(p, size):
    assert masks(p, size, 16).sum(1).tolist() == [size] * 16


def test_every_record_is_in_exactly_half_where_pools_are_even():
    assert masks(40, 20, 32).sum(0).tolist() == [16] * 40


@pytest.mark.parametrize("size", [30, 10])
def test_elsewhere_in_its_share_of_them(size):
    found = masks(40, size, 64).sum(0)
    assert found.tolist() == [64 * size // 40] * 40  # four windows of ten fill a lap


def test_a_longer_list_begins_with_the_shorter():
    assert torch.equal(masks(50, 30, 32)[:8], masks(50, 30, 8))


def test_laps_and_seeds_differ():
    one = masks(40, 20, 4)
    assert torch.equal(one[0], ~one[1]) and not torch.equal(one[0], one[2])
    assert not torch.equal(one, masks(40, 20, 4, seed=1))


def test_units_go_together_and_cost_less_than_one_of_size():
    units = torch.arange(60) // 3
    found = masks(60, 30, 20, units=units)
    assert all(len(set(row[units == u].tolist())) == 1 for row in found for u in range(20))
    assert (found.sum(1) - 30).abs().max() < 3


def test_sites_are_drawn_apart():
    site = torch.arange(60) % 2
    found = inclusion(site, torch.tensor([10, 25]), torch.arange(60), 12, Stream(0))
    assert (found[:, site == 0].sum(1) == 10).all() and (found[:, site == 1].sum(1) == 25).all()


def test_a_site_without_non_members_always_trains_on_all_it_has():
    assert masks(12, 12, 3).all() and not masks(12, 0, 3).any()
