"""Centred clipping: byzfl's values, its memory, and how far one site can move it."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.defend.merge._clipped_centre import CENTRE
from consilium.defend.merge.centred_clipping import CentredClipping

START = torch.tensor([1.0, -1.0, 0.0, 2.0]).double()


def rounds(rule, merging, rows_of_rounds, memory):
    for rows in rows_of_rounds:
        aggregate, memory = rule.merge().merge(merging.updates(rows), memory)
        yield aggregate.payload["delta"], memory


def test_two_rounds_are_byzfls(merging):
    """byzfl 0.0.11: CenteredClipping(m=START, L=1, tau=4) of the rows, then of the rows plus one."""
    expected = [
        [0.3874760083464104, -1.2435878852389362, 0.20128051549073686, 2.1751891479918766],
        [0.24486873226142183, -1.0871998525538147, 0.6479147459634553, 2.564761004865922],
    ]
    rows = [merging.GRID, merging.GRID + 1]
    for (delta, memory), values in zip(
        rounds(CentredClipping(4.0), merging, rows, {CENTRE: START}), expected, strict=True
    ):
        torch.testing.assert_close(delta, torch.tensor(values).double())
        assert torch.equal(memory[CENTRE], delta)


def test_three_steps_of_one_round_are_byzfls(merging):
    """byzfl 0.0.11: L=3."""
    expected = [-0.37215234716259415, -1.520377043001281, 0.4602057047856123, 2.4224528670562218]
    ((delta, _),) = rounds(CentredClipping(4.0, iterations=3), merging, [merging.GRID], {CENTRE: START})
    torch.testing.assert_close(delta, torch.tensor(expected).double())


@pytest.mark.parametrize("forged", [1e6, 1e18, float("nan")])
def test_one_site_of_five_moves_it_by_a_fifth_of_the_clip(merging, forged):
    honest = torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    rows = torch.cat([honest, torch.full((1, 20), forged)])
    centre = honest.mean(0)
    ((delta, _),) = rounds(CentredClipping(0.5), merging, [rows], {CENTRE: centre})
    assert float((delta - centre).norm()) < 0.5 + 1e-4
    alone = torch.cat([centre.expand(4, 20), torch.full((1, 20), 1e6)])
    ((delta, _),) = rounds(CentredClipping(0.5), merging, [alone], {CENTRE: centre})
    assert float((delta - centre).norm()) == pytest.approx(0.1, rel=1e-4)
    assert not (rows.mean(0) - centre).norm() < 1e5


def test_the_first_centre_is_the_median_and_other_parts_have_theirs(merging):
    updates = merging.updates(torch.randn(5, 8, generator=torch.Generator().manual_seed(2)))
    updates[2].payload["buffers"].fill_(1e12)
    aggregate, _ = CentredClipping(1e9).merge().merge(updates, {})
    torch.testing.assert_close(aggregate.payload["delta"], torch.stack([u.payload["delta"] for u in updates]).mean(0))
    assert aggregate.payload["buffers"].abs() < 10
    short, _ = CentredClipping(1e-9).merge().merge(updates, {})
    median = torch.stack([u.payload["delta"] for u in updates]).median(0).values
    torch.testing.assert_close(short.payload["delta"], median)


def test_knobs_are_checked():
    for knobs in ({"clip": 0.0}, {"iterations": 0}):
        with pytest.raises(Refused, match="out of range"):
            CentredClipping(**knobs)
