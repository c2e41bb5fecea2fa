"""A share of units is stratified and whole; roles keep what the source gives."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.data.dataset import TEST, TRAIN, VALIDATION
from consilium.data.division.splits import PUBLIC, Units, pick, pick_records, roles

labels = st.lists(st.integers(0, 3), min_size=1, max_size=80)
shares = st.floats(0, 0.95)


def generator(seed=0):
    return Stream(seed).generator()


@given(labels, shares)
def test_a_share_is_of_the_asked_size_and_stratified(y, share):
    y = torch.tensor(y)
    chosen = pick(y, share, generator())
    wanted = min(max(round(share * len(y)), int(share > 0)), len(y) - 1)
    assert int(chosen.sum()) == wanted
    for label in range(4):
        exact = share * int((y == label).sum())
        assert int(exact) <= int(chosen[y == label].sum()) <= exact + 1


def test_the_last_unit_of_a_label_is_left_where_another_can_go():
    y = torch.tensor([0, 1, 2, 2, 2, 2])
    for seed in range(20):
        assert y[pick(y, 0.3, generator(seed))].tolist() == [2, 2]


def test_a_share_is_random_and_repeatable():
    y = torch.zeros(100, dtype=torch.long)
    first, again, other = (pick(y, 0.3, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_unit_is_as_likely():
    y = torch.arange(30) % 3
    hits = sum(pick(y, 0.2, generator(seed)).float() for seed in range(1000))
    assert hits.min() > 200 - 5 * 12.6 and hits.max() < 200 + 5 * 12.6  # five standard deviations of a binomial


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=40))
def test_a_unit_bears_the_label_of_most_of_its_records(rows):
    units, y = (torch.tensor(column) for column in zip(*rows, strict=True))
    found = Units.among(y, units, keys=y)
    for unit, (label, key) in zip(torch.unique(units).tolist(), zip(found.y, found.keys, strict=True), strict=True):
        counts = Counter(y[units == unit].tolist())
        oracle = min(counts, key=lambda value: (-counts[value], value))
        assert int(label) == int(key) == oracle
    assert torch.equal(torch.unique(units)[found.of], units)


def test_units_of_no_records_are_none():
    empty = Records.of(torch.zeros(0, 1), torch.zeros(0, dtype=torch.long))
    assert pick_records(empty.y, empty.units, 0.5, generator()).shape == (0,)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), shares)
def test_records_of_a_unit_stay_together(units, share):
    records = Records.of(torch.zeros(len(units), 1), torch.arange(len(units)) % 2, torch.tensor(units))
    chosen = pick_records(records.y, records.units, share, generator())
    assert not set(records.units[chosen].tolist()) & set(records.units[~chosen].tolist())


def test_a_given_test_split_is_kept_and_the_public_slice_leaves_the_training_pool(toy):
    split = [TRAIN] * 100 + [VALIDATION] * 20 + [TEST] * 30
    role = roles(data := toy(y=[0, 1] * 75, split=split), data.records.y, test=0.5, public=0.1, stream=Stream(0))
    assert torch.bincount(role).tolist() == [90, 20, 30, 10]
    assert role[100:].tolist() == split[100:]


def test_without_a_given_test_split_one_is_held_out(toy):
    dataset = toy(y=[0, 1] * 50, units=[k // 2 for k in range(100)])
    role = roles(dataset, dataset.records.y, test=0.2, public=0.25, stream=Stream(0))
    assert torch.bincount(role, minlength=4).tolist() == [60, 0, 20, 20]
    assert torch.equal(role[::2], role[1::2])
    assert torch.bincount(dataset.records.y[role == TEST]).tolist() == [10, 10]


@pytest.mark.parametrize("public", [0.0, 0.1])
def test_the_test_set_does_not_depend_on_the_public_slice(toy, public):
    dataset = toy(y=[0, 1] * 50)
    role = roles(dataset, dataset.records.y, test=0.2, public=public, stream=Stream(3))
    alone = roles(dataset, dataset.records.y, test=0.2, public=0.5, stream=Stream(3))
    assert torch.equal(role == TEST, alone == TEST)
    assert bool((role == PUBLIC).any()) == (public > 0)
