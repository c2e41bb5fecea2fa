"""LiRA where everything is Gaussian: its scores are the closed form, and it is the best test there is."""

import math

import pytest
import torch
from scipy.stats import norm

from consilium.attack.membership._gaussians import likelihood_ratio, standing_out
from consilium.attack.membership.lira import LiRA
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.measure.ranking import auc


def shadows(n=400, m=64, apart=1.5, wide=0.7, seed=0):
    """Each record has a level of its own; models that saw it answer ``apart`` higher, all with one deviation."""
    g = torch.Generator().manual_seed(seed)
    level = 3 * torch.randn(n, generator=g, dtype=torch.float64)
    included = torch.rand(m, n, generator=g) < 0.5
    held = level + apart * included + wide * torch.randn(m, n, generator=g, dtype=torch.float64)
    member = torch.rand(n, generator=g) < 0.5
    phi = level + apart * member + wide * torch.randn(n, generator=g, dtype=torch.float64)
    return phi, held, included, member, level


def test_the_online_score_is_the_log_ratio_of_the_densities():
    phi, held, included, _, _ = shadows(n=5, m=24)
    scores = likelihood_ratio(phi, held, included, each=True)
    for i in range(5):
        sides = [held[of[:, i], i] for of in (included, ~included)]
        log_in, log_out = (norm.logpdf(phi[i], side.mean(), side.std()) for side in sides)
        assert float(scores[i]) == pytest.approx(log_in - log_out)


def test_the_offline_score_orders_as_the_probability_of_less():
    phi, held, included, _, _ = shadows(n=50, m=16)
    scores = standing_out(phi, held, included, each=True)
    out = [held[~included[:, i], i] for i in range(50)]
    below = torch.tensor([norm.cdf(phi[i], o.mean(), o.std()) for i, o in enumerate(out)])
    assert torch.equal(scores.argsort(), below.argsort())


def test_with_many_shadows_it_reaches_the_best_auc_there_is():
    """Two Gaussians d deviations apart are told at AUC Phi(d / sqrt 2), and no test does better (Neyman-Pearson)."""
    phi, held, included, member, _ = shadows(n=4000)
    best = norm.cdf(1.5 / 0.7 / math.sqrt(2))
    assert auc(likelihood_ratio(phi, held, included), member) == pytest.approx(best, abs=0.015)
    assert auc(standing_out(phi, held, included), member) == pytest.approx(best, abs=0.015)
    assert auc(phi, member) < best - 0.25, "one threshold for all records is far from it"


def test_the_pooled_deviation_is_that_within_a_record_not_between_them():
    """Records 3 apart with deviation .7: pooling answers without their own means would read 3."""
    phi, held, included, _, _ = shadows(n=2000, m=8)
    scores = standing_out(phi, held, included)
    mean = torch.stack([held[~included[:, i], i].mean() for i in range(2000) if not included[:, i].all()])
    ratio = (phi[~included.all(0)] - mean) / scores[~included.all(0)]
    assert ratio.std() < 1e-9 and float(ratio.mean()) == pytest.approx(0.7, rel=0.05)


def test_a_record_that_no_shadow_leaves_out_has_the_others_mean():
    phi, held, included, _, _ = shadows(n=6, m=4)
    included[:, 0], included[:, 1] = True, False
    assert likelihood_ratio(phi, held, included).isfinite().all()


def test_shadows_that_all_agree_are_finite():
    phi, held, included = torch.zeros(3).double(), torch.ones(4, 3).double(), torch.arange(12).view(4, 3) % 2 == 0
    assert likelihood_ratio(phi, held, included, each=True).isfinite().all()


def test_only_images_are_flipped(retrain_view):
    with pytest.raises(Refused, match="only images can be flipped and shifted"):
        LiRA(shadows=2, queries=4)(retrain_view(), {}, torch.Generator())


def test_more_queries_are_asked_about_moved_images(retrain_view):
    view = retrain_view(shape=(1, 4, 4))
    finding = LiRA(shadows=4, queries=4)(view, {}, torch.Generator())
    assert view.queries == [4 * len(view.candidates)] and finding.scores["score"].isfinite().all()


@pytest.mark.parametrize("knobs", [{"shadows": 1}, {"queries": 0}, {"queries": 19}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused):
        LiRA(**knobs)


def test_masks_must_cover_the_pool(retrain_view):
    view = retrain_view()
    with pytest.raises(Refused, match="Give one boolean row per seed"):
        view.fit(torch.ones(2, 3, dtype=torch.bool), [1, 2])
    assert [s.included.sum() for s in view.shadows(3)] == [len(view.pool) // 2] * 3
    assert view.stream == Stream(0)
