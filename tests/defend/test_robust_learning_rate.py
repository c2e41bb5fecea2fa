"""The robust learning rate: the weighted mean, turned where too few agree; a planted backdoor; memory."""

import weakref

import pytest
import torch

from consilium.core.errors import Failed, Refused
from consilium.core.merge import Cohort
from consilium.defend.merge.robust_learning_rate import RobustLearningRate


def by_hand(rows, weights, threshold):
    mean = (torch.tensor(weights)[:, None] * rows).sum(0) / sum(weights)
    votes = rows.sign().sum(0).abs()
    return torch.where(votes >= threshold * len(rows), mean, -mean)


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.8, 1.0])
def test_it_is_the_papers_formula(merging, threshold):
    rows, weights = torch.randn(7, 50, generator=torch.Generator().manual_seed(1)), [1.0, 2.0, 3.0, 1.0, 5.0, 2.0, 1.0]
    out = merging(RobustLearningRate(threshold), rows, weights)
    torch.testing.assert_close(out, by_hand(rows, weights, threshold))


def test_a_backdoor_of_two_sites_is_stepped_backwards(merging):
    """Coordinates that only the corrupted sites move: the mean plants them, the vote takes them out."""
    g = torch.Generator().manual_seed(2)
    rows = torch.cat([torch.ones(10, 50), 0.05 * torch.randn(10, 50, generator=g)], dim=1)
    rows[:2, 50:] = 5.0
    out = merging(RobustLearningRate(0.8), rows)
    assert torch.equal(out[:50].round(decimals=5), torch.ones(50))
    assert float(out[50:].mean()) < -0.5 and float(rows.mean(0)[50:].mean()) > 0.5


def test_it_keeps_no_update(merging):
    """Each is gone before the next but one comes."""
    alive, most = weakref.WeakSet(), 0

    def coming():
        nonlocal most
        for i in range(20):
            (update,) = merging.updates(torch.full((1, 4), float(i + 1)))
            alive.add(update.payload["delta"])
            yield update
            del update
            most = max(most, len(alive))

    RobustLearningRate().merge().merge(coming(), {}, 20.0)
    assert RobustLearningRate().merge().streams and most <= 3


def test_what_is_not_finite_neither_votes_nor_counts(merging):
    rows = torch.tensor([[1.0], [2.0], [float("nan")]])
    assert merging(RobustLearningRate(1.0), rows).item() == pytest.approx(1.5)
    with pytest.raises(Failed, match="none of 1 updates is finite"):
        merging(RobustLearningRate(), rows[2:])


def test_knobs_and_votes_that_decide_nothing():
    with pytest.raises(Refused, match=r"threshold: 1\.5 is out of range"):
        RobustLearningRate(1.5)
    assert RobustLearningRate(0.3).weakness(Cohort(3, 1)) and not RobustLearningRate(0.4).weakness(Cohort(3, 1))
