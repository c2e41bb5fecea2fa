"""The norm bound: exact below, on the bound above, and binding for a site that ignores it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.update import Update
from consilium.defend.update.norm_bound import NormBound


def update(delta, **more):
    return Update("site-1", 3, 40.0, {"delta": delta, "buffers": torch.ones(2), **more})


@settings(deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e3), st.integers(0, 9))
def test_nobody_is_longer_than_the_bound_and_twice_is_once(length, bound, seed):
    direction = torch.randn(50, generator=Stream(seed).generator())
    sent = update(direction / direction.norm() * length)
    defence = NormBound(bound)
    once = defence.enforce(sent, {}).payload["delta"]
    assert float(once.double().norm()) <= bound
    assert torch.equal(defence.enforce(update(once), {}).payload["delta"], once)
    assert torch.equal(defence.enforce(defence.protect(sent, {}, Stream(0))[0], {}).payload["delta"], once)
    assert float(once.double().norm()) >= min(length, bound) * (1 - 1e-5)
    torch.testing.assert_close(once / once.norm(), direction / direction.norm())


def test_what_is_short_enough_passes_unchanged():
    sent = update(torch.tensor([0.6, 0.0]))
    assert NormBound(1.0).enforce(sent, {}) is sent


def test_the_server_half_binds_a_site_that_skipped_its_own():
    forged = update(torch.full((4,), 1e30))
    bound = NormBound(2.0).enforce(forged, {})
    assert float(bound.payload["delta"].norm()) == pytest.approx(2.0, rel=1e-5)
    assert torch.equal(bound.payload["buffers"], forged.payload["buffers"])
    assert (bound.site, bound.round, bound.weight) == (forged.site, forged.round, forged.weight)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["delta", "buffers"])
def test_what_is_not_finite_is_refused_naming_the_site(bad, where):
    payload = {"delta": torch.zeros(3), "buffers": torch.zeros(2)}
    payload[where] = torch.tensor([0.0, bad])
    with pytest.raises(Refused, match=f"site-1: the update's {where} is not finite"):
        NormBound().enforce(Update("site-1", 0, 1.0, payload), {})


def test_without_a_delta_it_says_so_instead_of_passing():
    with pytest.raises(Refused, match="no delta"):
        NormBound().enforce(Update("a", 0, 1.0, {"logits": torch.zeros(2)}), {})


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_the_bound_is_a_positive_number(bound):
    with pytest.raises(Refused, match="bound"):
        NormBound(bound)
