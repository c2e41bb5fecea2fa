"""AUC against scikit-learn, ties and weights included; its interval against resampling by hand."""

import time

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from consilium.core.random import Stream
from consilium.measure.ranking import auc, auc_interval


def sample(n, seed=0, gap=1.0, ties=False):
    g = np.random.default_rng(seed)
    labels = g.integers(2, size=n)
    scores = g.normal(size=n) + gap * labels
    return torch.tensor(np.round(scores, 1) if ties else scores), torch.tensor(labels)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_sklearns(seed, ties):
    scores, labels = sample(200, seed, ties=ties)
    assert auc(scores, labels == 1) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_extremes():
    labels = torch.tensor([False, False, True, True])
    assert auc(torch.tensor([1.0, 2, 3, 4]), labels) == 1
    assert auc(torch.tensor([4.0, 3, 2, 1]), labels) == 0
    assert auc(torch.zeros(4), labels) == 0.5


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_is_that_of_resampling_by_hand(ties):
    scores, labels = sample(150, 5, ties=ties)
    value, low, high = auc_interval([scores], labels, Stream(1), repeats=2000)
    g, s, y = np.random.default_rng(9), scores.numpy(), labels.numpy()
    places = [np.flatnonzero(y == c) for c in (0, 1)]
    rows = [np.concatenate([g.choice(p, len(p)) for p in places]) for _ in range(2000)]
    by_hand = np.quantile([roc_auc_score(y[r], s[r]) for r in rows], [0.025, 0.975])
    assert value == pytest.approx(roc_auc_score(y, s))
    assert (low, high) == pytest.approx(tuple(by_hand), abs=0.012)


def test_the_interval_covers():
    """True AUC of two unit normals one apart: Phi(1/sqrt 2) = .7602."""
    hits = [low <= 0.7602 <= high for low, high in (auc_interval([s], y, Stream(0), 300)[1:] for s, y in
            (sample(120, seed) for seed in range(150)))]  # fmt: skip
    assert 0.89 <= np.mean(hits) <= 0.99


def test_several_classes_are_sklearns_macro_one_against_the_rest():
    g = np.random.default_rng(2)
    y = np.r_[0, 1, 2, g.integers(3, size=297)]
    p = g.dirichlet([1, 1, 1], size=300) + 0.3 * np.eye(3)[y]
    p /= p.sum(1, keepdims=True)
    value, low, high = auc_interval([torch.tensor(p[:, c]) for c in range(3)], torch.tensor(y), Stream(0))
    assert value == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-12)
    assert low < value < high


def test_perfect_separation_is_not_certainty():
    value, low, high = auc_interval([torch.arange(20.0)], torch.arange(20) // 10, Stream(0))
    assert (value, high) == (1, 1) and low < 0.75


def test_the_stream_decides():
    scores, labels = sample(100)
    first, second, other = (auc_interval([scores], labels, Stream(s)) for s in (1, 1, 2))
    assert first == second != other


def test_it_is_fast_enough():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(10, (600,), generator=g)
    columns = list(torch.rand(10, 600, generator=g))
    start = time.process_time()
    auc_interval(columns, y, Stream(0))
    assert time.process_time() - start < 2  # of this process alone: about 0.1
