"""Every partition is one; each has the shape it is named after, and says so where it cannot."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Failed, Refused
from consilium.core.random import Stream
from consilium.data.partition import Partition
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.dirichlet import Dirichlet
from consilium.data.partitions.iid import IID
from consilium.data.partitions.shards import Shards
from consilium.data.partitions.unbalanced import Unbalanced

ALL = [IID(), Dirichlet(alpha=1.0, minimum=1), Shards(), ByKey(), Unbalanced(), Unbalanced(exponent=3.0)]


def generator(seed=0):
    return Stream(seed).generator()


def divide(partition, y, sites, *, keys=None, seed=0):
    y = torch.as_tensor(y)
    return partition.divide(y, None if keys is None else torch.as_tensor(keys), sites, generator(seed))


@pytest.mark.parametrize("partition", ALL, ids=repr)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_unit_has_one_site_and_every_site_a_unit(partition, data):
    sites = data.draw(st.integers(1, 4))
    y = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=40, max_size=80)))
    keys = (torch.arange(len(y)) % 5) * 10
    state = torch.random.get_rng_state()
    found, again = (divide(partition, y, sites, keys=keys, seed=7) for _ in range(2))
    assert found.shape == y.shape and found.dtype == torch.int64
    assert torch.bincount(found, minlength=sites).min() > 0 and int(found.max()) < sites
    assert torch.equal(found, again)
    assert torch.equal(state, torch.random.get_rng_state())


@dataclass(frozen=True)
class Broken(Partition):
    """Gives what it is told to give."""

    answer: tuple[int, ...]

    def assign(self, y, keys, sites, generator):
        return torch.tensor(self.answer)


@pytest.mark.parametrize("answer", [(0, 1), (0, 1, 2), (0, -1, 1)], ids=["too few", "no such site", "negative"])
def test_a_partition_that_is_none_is_noticed(answer):
    with pytest.raises(Failed, match="did not give each of 3 units one of 2 sites"):
        divide(Broken(answer), [0, 1, 0], 2)


def test_a_site_without_records_is_named():
    with pytest.raises(Refused, match="site-1 got no records under partition"):
        divide(Broken((0, 2, 2)), [0, 1, 0], 3)


def test_more_sites_than_units_are_refused():
    with pytest.raises(Refused, match="2 units cannot be divided over 3 sites"):
        divide(IID(), [0, 1], 3)


def test_iid_sites_are_equal_in_size():
    assert sorted(torch.bincount(divide(IID(), [0] * 11, 3)).tolist()) == [3, 4, 4]


@pytest.mark.parametrize("alpha", [0.5, 5.0])
def test_dirichlet_shares_have_the_variance_of_the_law(alpha):
    labels, units, sites = 2000, 100, 4
    y = torch.arange(labels).repeat_interleave(units)
    site = Dirichlet(alpha=alpha, minimum=1).divide(y, None, sites, generator())
    shares = torch.bincount(y * sites + site, minlength=labels * sites).view(labels, sites) / units
    law = (1 / sites) * (1 - 1 / sites) / (sites * alpha + 1)
    assert float(shares.var(dim=0).mean()) == pytest.approx(law, rel=0.1)
    assert float(shares.mean(dim=0).std()) < 0.02


def test_dirichlet_draws_again_until_every_site_has_its_minimum():
    y = [0] * 100 + [1] * 100

    def least(minimum):
        return min(
            int(torch.bincount(divide(Dirichlet(alpha=0.3, minimum=minimum), y, 4, seed=seed)).min())
            for seed in range(20)
        )

    assert least(1) < 15 <= least(15)


def test_dirichlet_gives_up_naming_the_site():
    with pytest.raises(Refused, match=r"site-\d got \d+ units, fewer than 40, in the last of 5 draws at alpha = 0.01"):
        divide(Dirichlet(alpha=0.01, minimum=40, tries=5), [0] * 100 + [1] * 100, 4)
    with pytest.raises(Refused, match="20 units cannot give 3 sites 10 each"):
        divide(Dirichlet(), [0, 1] * 10, 3)


def test_shards_of_equal_labels_give_each_site_two():
    y = torch.arange(10).repeat_interleave(20)[torch.randperm(200, generator=generator(1))]
    site = divide(Shards(), y, 5)
    for k in range(5):
        assert len(torch.unique(y[site == k])) <= 2
        assert int((site == k).sum()) == 40
    with pytest.raises(Refused, match="3 units cannot be cut into 4 shards"):
        divide(Shards(), [0, 1, 1], 2)


def test_by_key_keeps_keys_whole_and_puts_the_largest_first():
    keys = [30] * 50 + [10] * 30 + [20] * 25 + [40] * 5
    one_each = divide(ByKey(), [0] * 110, 4, keys=keys)
    assert torch.unique(torch.stack([torch.tensor(keys), one_each]), dim=1).tolist() == [[10, 20, 30, 40], [0, 1, 2, 3]]
    grouped = divide(ByKey(), [0] * 110, 2, keys=keys)
    assert sorted(torch.bincount(grouped).tolist()) == [55, 55]


def test_by_key_refuses_what_it_cannot_do():
    with pytest.raises(Refused, match="names none"):
        divide(ByKey(), [0, 1], 2)
    with pytest.raises(Refused, match="the study asks for 3 sites, and the training pool has patients of 2"):
        divide(ByKey(), [0] * 6, 3, keys=[0, 1] * 3)


def test_unbalanced_sizes_are_the_ratios():
    assert torch.bincount(divide(Unbalanced(sizes=(1.0, 3.0, 6.0)), [0] * 1003, 3)).tolist() == [101, 301, 601]
    assert torch.bincount(divide(Unbalanced(exponent=1.0), [0] * 1103, 3)).tolist() == [601, 301, 201]
    assert torch.bincount(divide(Unbalanced(exponent=10.0), [0] * 10, 4)).min() == 1
    with pytest.raises(Refused, match="2 sizes for 3 sites"):
        divide(Unbalanced(sizes=(1.0, 2.0)), [0] * 9, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dirichlet(alpha=0.0),
        lambda: Dirichlet(alpha=float("nan")),
        lambda: Dirichlet(minimum=0),
        lambda: Dirichlet(tries=0),
        lambda: Shards(per_site=0),
        lambda: Unbalanced(sizes=()),
        lambda: Unbalanced(sizes=(1.0, 0.0)),
        lambda: Unbalanced(exponent=-1.0),
    ],
)
def test_a_knob_out_of_range_is_refused(make):
    with pytest.raises(Refused, match="out of range"):
        make()
