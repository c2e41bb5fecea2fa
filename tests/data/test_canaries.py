"""Canaries: independent fair coins, in the training and in no other pool, each its own unit."""

import pytest
import torch
from scipy import stats

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Consortium, Pools, Records, Site
from consilium.data.division.canaries import plant
from consilium.learn.tasks.single_label import SingleLabel

KINDS = ("noise", "mislabelled")


def consortium(sites=3, per_unit=1, classes=4):
    """Per site 30 training, 6 validation and 40 non-member records; units of ``per_unit``."""
    g, made, first = torch.Generator().manual_seed(0), [], 0

    def pool(n):
        nonlocal first
        ids = torch.arange(first, first + n)
        first += n
        return Records(
            torch.rand(n, 2, 3, generator=g), torch.randint(classes, (n,), generator=g), ids, ids // per_unit
        )

    for k in range(sites):
        made.append(Site(f"site-{k}", Pools(pool(30), pool(6), pool(40))))
    names = tuple(str(c) for c in range(classes))
    return Consortium("made-up", tuple(made), pool(20), pool(8), names, SingleLabel(), (2, 3), "made up", bundled=True)


def planted(data=None, canaries=60, kind="noise", site="", seed=0):
    return plant(data or consortium(), canaries=canaries, kind=kind, site=site, stream=Stream(seed))


def ids(records):
    return set(records.ids.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_those_that_are_in_count_in_n_and_no_other_pool_knows_any(kind):
    before, data = consortium(), planted(kind=kind)
    own = data.canaries
    for k, (old, new) in enumerate(zip(before.sites, data.sites, strict=True)):
        here = own.records.select((own.site == k) & own.included)
        assert ids(new.records.train) == ids(old.records.train) | ids(here)
        assert len(new.records.train) == len(old.records.train) + len(here)
        assert torch.equal(new.records.train.x[: len(old.records.train)], old.records.train.x)
        for pool in (new.records.validation, new.records.non_members):
            assert not ids(pool) & ids(own.records)
    for pool in (data.test, data.public):
        assert not ids(pool) & ids(own.records)
    assert any("60" in note and "canaries" in note for note in data.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_spread_evenly_or_at_one_site(kind):
    assert torch.bincount(planted(kind=kind, canaries=32).canaries.site).tolist() == [11, 11, 10]
    own = planted(kind=kind, canaries=30, site="site-1").canaries
    assert set(own.site.tolist()) == {1}


def test_mislabelled_ones_are_held_out_records_under_another_label():
    before, data = consortium(), planted(kind="mislabelled")
    own = data.canaries
    for k, site in enumerate(before.sites):
        pool, here = site.records.non_members, own.records.select(own.site == k)
        at = [pool.ids.tolist().index(i) for i in here.ids.tolist()]
        assert torch.equal(here.x, pool.x[at])
        assert (here.y != pool.y[at]).all() and int(here.y.max()) < 4
        assert ids(data.sites[k].records.non_members) == ids(pool) - ids(here)


def test_a_unit_gives_one_canary_and_leaves_its_pool():
    before = consortium(per_unit=2)
    data = planted(before, 15, "mislabelled", "site-0")
    units = data.canaries.records.units
    assert len(set(units.tolist())) == len(units)
    left = data.sites[0].records.non_members
    assert not set(units.tolist()) & set(left.units.tolist())


def test_noise_has_units_of_its_own():
    before, data = consortium(), planted()
    others = torch.cat([p.units for s in before.sites for p in (s.records.train, s.records.non_members)])
    assert not set(data.canaries.records.units.tolist()) & set(others.tolist())
    x = data.canaries.records.x
    assert x.min() >= 0 and x.max() <= 1 and stats.kstest(x.flatten().numpy(), "uniform").pvalue > 1e-3


def test_the_coins_are_fair_independent_and_follow_the_seed():
    draws = torch.stack([planted(seed=s).canaries.included for s in range(100)])
    assert stats.binomtest(int(draws.sum()), draws.numel(), 0.5).pvalue > 1e-3
    spread = draws.sum(1).double().var()
    assert abs(float(spread) / (60 / 4) - 1) < 0.6  # binomial: a fixed number of inclusions would have none
    assert torch.equal(planted(seed=3).canaries.included, planted(seed=3).canaries.included)
    assert not torch.equal(planted(seed=3).canaries.included, planted(seed=4).canaries.included)


def test_the_coins_tell_nothing_of_the_canary():
    """The same canaries stand there whatever the coins are: label and place are drawn apart from them."""
    own = planted(canaries=3000).canaries
    table = [[int(((own.records.y == y) & (own.included == c)).sum()) for y in range(4)] for c in (True, False)]
    assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"site": "site-9"}, "no site 'site-9'"),
        ({"kind": "mislabelled", "canaries": 130}, "40 units in its non-member pool and the study asks for 44"),
        ({"kind": "loud"}, "no loud canaries"),
        ({"data": consortium(classes=1)}, "two classes"),
    ],
)
def test_what_cannot_be_planted_is_refused(wrong, reason):
    with pytest.raises(Refused, match=reason) as refused:
        planted(**wrong)
    assert refused.value.remedy or "classes" in reason
