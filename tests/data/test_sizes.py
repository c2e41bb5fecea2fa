"""Sites of bounded sizes: every unit is given out, the sizes follow the law, and what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.data.partitions.sizes import Sizes


def divided(units, sites, seed=0, **knobs):
    generator = torch.Generator().manual_seed(seed)
    site = Sizes(**knobs).divide(torch.zeros(units, dtype=torch.long), None, sites, generator)
    return site, torch.bincount(site, minlength=sites)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 30), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_every_site_is_within_bounds_and_every_unit_is_given_out(sites, minimum, more, at) -> None:
    maximum = minimum + more
    units = round(sites * minimum + at * sites * more)
    _, sizes = divided(units, sites, minimum=minimum, maximum=maximum)
    assert int(sizes.sum()) == units and minimum <= int(sizes.min()) and int(sizes.max()) <= maximum


def test_many_small_sites_follow_the_power_law_of_their_mean() -> None:
    _, sizes = divided(57_000, 10_000)
    assert (int(sizes.min()), int(sizes.max())) == (1, 50)
    s = np.arange(1, 51.0)
    exponents = np.linspace(0.5, 3, 2501)
    laws = [s**-a / (s**-a).sum() for a in exponents]
    law = laws[int(np.argmin([abs(law @ s - 5.7) for law in laws]))]
    seen = np.bincount(sizes.numpy(), minlength=51)[1:] / 10_000
    assert np.abs(seen.cumsum() - law.cumsum()).max() < 0.003
    assert 0.3 < seen[0] < 0.5  # most sites are tiny


def test_the_seed_decides_who_is_large_and_who_has_what() -> None:
    one, again, other = divided(500, 50), divided(500, 50), divided(500, 50, seed=1)
    assert torch.equal(one[0], again[0]) and not torch.equal(one[1], other[1])
    assert sorted(one[1].tolist()) == sorted(other[1].tolist())
    assert one[1].tolist() != sorted(one[1].tolist())


@pytest.mark.parametrize(("units", "sites"), [(9, 10), (501, 10)])
def test_too_few_or_too_many_units_are_refused_with_what_would_fit(units, sites) -> None:
    with pytest.raises(Refused):
        divided(units, sites)
    with pytest.raises(Refused, match="501 units are not 10 sites of 1 to 50 each"):
        divided(501, 10)


@pytest.mark.parametrize("knobs", [{"minimum": 0}, {"minimum": 5, "maximum": 4}])
def test_knobs_out_of_range_are_refused(knobs) -> None:
    with pytest.raises(Refused, match="out of range"):
        Sizes(**knobs)
