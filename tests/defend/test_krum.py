"""Krum and multi-Krum against byzfl, a loop, and what a minority can do to them."""

import itertools

import pytest
import torch

from consilium.core.errors import Failed, Refused
from consilium.core.merge import Cohort
from consilium.defend.merge.krum import Krum
from consilium.defend.merge.multi_krum import MultiKrum


def by_hand(rows, byzantine):
    """Scores of the paper, one pair after the other."""
    n = len(rows)
    distances = [[float(((a - b) ** 2).sum()) for j, b in enumerate(rows) if j != i] for i, a in enumerate(rows)]
    return [sum(sorted(row)[: n - byzantine - 2]) for row in distances]


def test_it_is_byzfls_krum_whose_count_of_neighbours_is_one_larger(merging):
    """byzfl 0.0.11 sums over n - f - 1 neighbours: Krum(f=3) there is f = 2 here, MultiKrum(f=3) averages 8 of 11."""
    assert merging(Krum(byzantine=2), merging.GRID).tolist() == [-3.0, 0.0, 3.0, 6.0]
    eight = merging(MultiKrum(byzantine=2, selected=8), merging.GRID)
    torch.testing.assert_close(eight, torch.tensor([-1.875, -1.375, 1.25, 3.875]).double())


@pytest.mark.parametrize("byzantine", [0, 1, 2, 3])
def test_the_winners_are_those_of_a_loop(merging, byzantine):
    rows = torch.randn(9, 30, generator=torch.Generator().manual_seed(byzantine))
    scores = by_hand(rows.double(), byzantine)
    order = sorted(range(9), key=lambda i: scores[i])
    assert torch.equal(merging(Krum(byzantine), rows), rows[order[0]])
    torch.testing.assert_close(merging(MultiKrum(byzantine), rows), rows[order[: 9 - byzantine]].mean(0))


@pytest.mark.parametrize("forged", [1e15, -1e15, float("nan"), float("inf")])
def test_f_forged_updates_are_never_chosen_and_the_mean_is_lost(merging, forged):
    honest = torch.randn(6, 20, generator=torch.Generator().manual_seed(1))
    rows = torch.cat([honest[:3], torch.full((2, 20), forged), honest[3:]])
    assert any(torch.equal(merging(Krum(2), rows), row) for row in honest)
    torch.testing.assert_close(merging(MultiKrum(2), rows), honest.mean(0))
    assert not (rows.mean(0) - honest.mean(0)).norm() < 1e10


def test_with_more_than_f_that_agree_it_is_theirs(merging):
    """The breakdown point: seven sites withstand two, and not four."""
    rows = torch.cat([torch.randn(3, 20, generator=torch.Generator().manual_seed(1)), torch.full((4, 20), 50.0)])
    assert torch.equal(merging(Krum(2), rows), rows[3])


def test_a_winner_brings_all_that_it_sent(merging):
    updates = merging.updates(torch.randn(5, 8, generator=torch.Generator().manual_seed(2)))
    aggregate, _ = Krum().merge().merge(updates, {})
    winner = next(u for u in updates if torch.equal(u.payload["delta"], aggregate.payload["delta"]))
    assert torch.equal(winner.payload["buffers"], aggregate.payload["buffers"])
    assert (aggregate.weight, aggregate.count) == (5.0, 5)


def test_weights_are_ignored_and_equals_are_won_by_name(merging):
    rows = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(merging(Krum(), rows), merging(Krum(), rows, [1.0, 1.0, 500.0, 1.0, 1.0]))
    updates = merging.updates([[1.0, 2.0]] * 5)
    for order in itertools.permutations(updates, 5):
        assert Krum().merge().merge(order, {})[0].payload["delta"].tolist() == [1.0, 2.0]


def test_more_that_is_not_finite_than_f_fails_aloud(merging):
    rows = torch.randn(7, 4, generator=torch.Generator().manual_seed(3))
    rows[:3] = float("nan")
    with pytest.raises(Failed, match="3 of 7 updates are not finite, and this merge withstands 2"):
        merging(Krum(2), rows)


@pytest.mark.parametrize("rule", [Krum, MultiKrum])
def test_too_few_sites_are_refused_with_the_numbers(rule):
    kind = rule.kind()
    with pytest.raises(Refused, match=rf"{kind} with byzantine = 3 needs 2f \+ 3 = 9 updates a round, and 8 are") as it:
        rule(3).check_cohort(Cohort(8, 1))
    assert "byzantine = 2" in it.value.remedy
    rule(3).check_cohort(Cohort(9, 1))
    with pytest.raises(Refused, match="5 updates a round, and 4 are expected"):
        rule(1).check_cohort(Cohort(8, 1, rate=0.5))
    with pytest.raises(Refused, match="byzantine: -1 is out of range"):
        rule(-1)


def test_more_selected_than_can_be_honest_are_refused():
    with pytest.raises(Refused, match="selected = 7 averages more than the n - f = 6 updates"):
        MultiKrum(1, selected=7).check_cohort(Cohort(7, 1))
