"""Detectors: what each computes against a closed form or a loop, and planted inputs that it must notice."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from consilium.core.detection import detector_of
from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.detection._fitted import halves, quantile
from consilium.defend.detection._generator import generated, projected
from consilium.defend.detection._nearest import local_dimension
from consilium.defend.detection._regression import logistic_fit
from consilium.defend.detection._twins import adversarial_twins
from consilium.defend.detection.defense_gan import DefenseGAN
from consilium.defend.detection.feature_squeezing import FeatureSqueezing
from consilium.defend.detection.learned_detector import LearnedDetector
from consilium.defend.detection.local_intrinsic_dimensionality import LocalIntrinsicDimensionality
from consilium.defend.detection.mahalanobis import Mahalanobis
from consilium.defend.detection.statistical_test import StatisticalTest
from consilium.defend.model.calibrate import Calibrate
from consilium.defend.model.prune import Prune
from consilium.defend.model.static_int8 import StaticInt8
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.ranking import auc

TASK = SingleLabel()


def linear(classes=3, d=4, seed=0):
    with scoped(Stream(seed)):
        return nn.Sequential(nn.Flatten(), nn.Linear(d, classes)).eval().requires_grad_(False)


def gaussian(n, d=4, classes=3, seed=1):
    """Records of classes whose means are apart and whose covariance is the same."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    mixing = 0.04 * torch.randn(d, d, generator=torch.Generator().manual_seed(7))
    centres = 0.3 + 0.4 * torch.rand(classes, d, generator=torch.Generator().manual_seed(8))
    return Records.of(centres[y] + torch.randn(n, d, generator=g) @ mixing, y)


def fitted(entry, model, records):
    return entry.apply(model, records, Stream(0), TASK)


# --- the threshold


def test_the_threshold_is_the_conformal_quantile():
    suspicion = torch.arange(1.0, 20.0).flip(0)  # 1 to 19
    assert quantile(suspicion, 0.05) == 19 and quantile(suspicion, 0.1) == 18 and quantile(suspicion, 0.5) == 10


def test_at_most_the_stated_share_is_rejected_on_average():
    rates = []
    for seed in range(300):
        scores = torch.rand(1039, generator=torch.Generator().manual_seed(seed))
        rates.append(float((scores[39:] > quantile(scores[:39], 0.1)).float().mean()))
    assert np.mean(rates) == pytest.approx(0.1, abs=0.01)


def test_the_halves_share_no_record_and_hold_every_class():
    records = Records.of(torch.rand(31, 2), torch.arange(31) % 10)
    one, other = halves(records)
    assert not set(one.ids.tolist()) & set(other.ids.tolist()) and len(one) + len(other) == 31
    assert set(one.y.tolist()) == set(other.y.tolist()) == set(range(10))


# --- closed forms


def test_feature_squeezing_by_hand():
    model, records = linear(d=9), Records.of(torch.rand(60, 1, 3, 3), torch.arange(60) % 3)
    detecting = fitted(FeatureSqueezing(bits=1, window=3), model, records)
    x = records.x[:1]
    median = torch.empty(1, 1, 3, 3)
    padded = np.pad(x[0, 0].numpy(), 1, mode="reflect")
    for i in range(3):
        for j in range(3):
            median[0, 0, i, j] = float(np.median(padded[i : i + 3, j : j + 3]))
    p, rounded, filtered = (model(one).softmax(1) for one in (x, (x > 0.5).float(), median))
    wanted = max(float((p - rounded).abs().sum()), float((p - filtered).abs().sum()))
    assert float(detecting.suspicion(x)) == pytest.approx(wanted, rel=1e-5)
    every = detecting.suspicion(records.x)
    assert float(detecting.threshold) == float(quantile(every, 0.05))


@pytest.mark.parametrize(("n", "d"), [(200, 4), (24, 40)], ids=["more records than features", "fewer"])
def test_mahalanobis_by_numpy(n, d):
    records, shrinkage = gaussian(n, d), 0.2
    detecting = fitted(Mahalanobis(shrinkage=shrinkage, false_positives=0.2), linear(d=d), records)
    first = halves(records)[0]
    x, y = first.x.double().numpy(), first.y.numpy()
    means = np.stack([x[y == c].mean(0) for c in range(3)])
    within = (x - means[y]).T @ (x - means[y]) / len(x)
    inverse = np.linalg.inv((1 - shrinkage) * within + shrinkage * np.trace(within) / d * np.eye(d))
    asked = torch.rand(10, d)
    apart = asked.double().numpy()[:, None] - means
    wanted = np.einsum("ncd,de,nce->nc", apart, inverse, apart).min(1)
    np.testing.assert_allclose(detecting.suspicion(asked).numpy(), wanted, rtol=2e-3)


@pytest.mark.parametrize("d", [2, 5])
def test_the_local_dimension_of_uniform_points_is_theirs(d):
    g = torch.Generator().manual_seed(0)
    points = torch.rand(4000, d, generator=g)
    centre = 0.3 + 0.4 * torch.rand(200, d, generator=g)
    assert float(local_dimension(centre, points, 40).mean()) == pytest.approx(d, rel=0.08)


def test_the_local_dimension_by_a_loop():
    x, among = torch.rand(3, 4), torch.rand(30, 4)
    for one, value in zip(x, local_dimension(x, among, 5), strict=True):
        r = sorted(float((one - other).norm()) for other in among)[:5]
        assert float(value) == pytest.approx(-1 / np.mean([math.log(a / r[-1]) for a in r]), rel=1e-4)


def test_neighbours_that_are_as_far_as_each_other_are_finite():
    assert local_dimension(torch.zeros(1, 3), torch.zeros(9, 3), 4).isfinite().all()


def test_the_density_by_a_loop():
    records, model = gaussian(60), linear()
    detecting = fitted(StatisticalTest(bandwidth=0.7), model, records)
    h = halves(records)[0]
    apart = [float((a - b).norm()) for i, a in enumerate(h.x) for j, b in enumerate(h.x) if i != j and h.y[i] == h.y[j]]
    width = 0.7 * sorted(apart)[(len(apart) - 1) // 2]
    for one in torch.rand(5, 4):
        label = int(model(one[None]).argmax())
        kernel = [math.exp(-float((one - a).square().sum()) / (2 * width**2)) for a in h.x[h.y == label]]
        assert float(detecting.suspicion(one[None])) == pytest.approx(-math.log(np.mean(kernel)), rel=1e-3)


def test_the_verdict_of_the_statistical_test_is_its_p_value():
    records = gaussian(120)
    detecting = fitted(StatisticalTest(false_positives=0.1), linear(), records)
    reference = detecting.suspicion(halves(records)[1].x)
    x = gaussian(400, seed=3).x
    p = (1 + (reference >= detecting.suspicion(x)[:, None]).sum(1)) / (1 + len(reference))
    assert torch.equal(detecting.rejects(x), p <= 0.1)


def test_the_regression_is_that_of_scikit_learn():
    g = np.random.default_rng(0)
    x = g.normal(size=(200, 3)) * [1, 10, 0.1] + 4
    y = x @ [1.0, 0.1, 5.0] + g.normal(size=200) > np.median(x @ [1.0, 0.1, 5.0])
    weights, bias = logistic_fit(torch.tensor(x), torch.tensor(y))
    z = (x - x.mean(0)) / x.std(0)
    peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(z, y)
    np.testing.assert_allclose((torch.tensor(x) @ weights + bias).numpy(), peer.decision_function(z), atol=1e-4)


def test_the_projection_finds_the_nearest_point_of_a_range():
    """A range with one latent number is a curve, on which the nearest point is found by looking at all of it."""
    g = torch.Generator().manual_seed(0)
    parts = [torch.randn(*shape, generator=g) for shape in ((1, 6), (6,), (6, 6), (6,), (6, 3), (3,))]
    curve = generated(torch.linspace(-6, 6, 20001)[:, None], parts)
    x = torch.rand(5, 3, generator=g)
    starts = torch.linspace(-3, 3, 7)[:, None]
    reached = (projected(x, parts, starts, 200) - x).square().sum(1)
    wanted = (curve[None] - x[:, None]).square().sum(2).amin(1)
    assert (reached <= wanted + 1e-4).all()
    fewer = (projected(x, parts, starts[:1], 2) - x).square().sum(1)
    assert (fewer > wanted + 1e-3).any(), "any search would do"


# --- planted inputs


@pytest.fixture(scope="module")
def planted():
    """A network of two kinds of pictures, their public records, fresh ones, and noise that is neither."""
    g = torch.Generator().manual_seed(0)

    def pictures(n):
        y = torch.arange(n) % 2
        x = 0.1 * torch.rand(n, 1, 6, 6, generator=g)
        x[y == 0, :, :, :3] += 0.8
        x[y == 1, :, :, 3:] += 0.8
        return Records.of(x, y)

    public, clean, noise = pictures(200), pictures(100), torch.rand(100, 1, 6, 6, generator=g)
    with scoped(Stream(3)):
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 2))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(public.x), public.y).backward()
        optimiser.step()
    return net.eval().requires_grad_(False), public, clean, noise


@pytest.fixture(scope="module")
def fit_once(planted):
    """``fit_once(entry)``: its detector of the planted network."""
    net, public, _, _ = planted
    return cache(lambda entry: fitted(entry, net, public))


GAN = DefenseGAN(latent=3, hidden=24, batches=60, steps=15, starts=2)
OUTLIERS = [Mahalanobis(), StatisticalTest(), GAN]


@pytest.mark.parametrize("entry", OUTLIERS, ids=lambda e: e.kind())
def test_what_no_public_record_looks_like_is_rejected(entry, planted, fit_once):
    _, _, clean, noise = planted
    detecting = fit_once(entry)
    assert float(detecting.rejects(noise).float().mean()) > 0.7
    assert float(detecting.rejects(clean.x).float().mean()) < 0.15


@pytest.mark.parametrize("entry", OUTLIERS, ids=lambda e: e.kind())
def test_nothing_is_noticed_where_there_is_nothing(entry, planted, fit_once):
    suspicion = fit_once(entry).suspicion(planted[2].x)
    half = torch.arange(100) % 4 < 2
    assert abs(auc(suspicion, half) - 0.5) < 0.16


@pytest.mark.parametrize(
    "entry",
    [LearnedDetector(hidden=8, epochs=60, radius=0.3, steps=5), LocalIntrinsicDimensionality(radius=0.3, steps=5)],
    ids=lambda e: e.kind(),
)
def test_what_learned_from_twins_knows_fresh_ones(entry, planted):
    net, public, clean, _ = planted
    detecting = fitted(entry, net, public)
    twins = adversarial_twins(net, clean, 0.3, 5, Stream(9), TASK)
    scores = torch.cat([detecting.suspicion(x) for x in (clean.x, twins)])
    assert auc(scores, torch.arange(200) >= 100) > 0.9
    assert float(detecting.rejects(clean.x).float().mean()) < 0.2


def test_the_projection_keeps_the_answers_to_public_pictures(planted, fit_once):
    net, _, clean, _ = planted
    detecting = fit_once(GAN)
    assert float((detecting(clean.x).argmax(1) == clean.y).float().mean()) > 0.9
    assert not torch.equal(detecting(clean.x), net(clean.x))


# --- what it stands on


def test_a_detector_changes_no_answer_of_the_model_behind_it(planted):
    net, public, clean, _ = planted
    assert torch.equal(fitted(Mahalanobis(), net, public)(clean.x), net(clean.x))


def test_a_pruned_model_stays_small_and_a_calibrated_one_calibrated(planted):
    net, public, clean, _ = planted
    for first in (Prune(sparsity=0.7, fine_tune_steps=0), Calibrate()):
        before = first.apply(net, public, Stream(0), TASK)
        entry = FeatureSqueezing()
        detecting = fitted(entry, before, public)
        packed = entry.pack(detecting)
        assert ("mask" in packed) == (first.kind() == "prune")
        shaped = entry.structure(first.structure(net, public.x[:1]), public.x[:1])
        assert torch.equal(entry.unpack(shaped, packed)(clean.x), before(clean.x))


def test_int8_is_squeezed_and_not_looked_into(planted):
    net, public, _, _ = planted
    quantised = StaticInt8().apply(net, public, Stream(0), TASK)
    detecting = fitted(FeatureSqueezing(), quantised, public)
    assert detector_of(nn.Sequential(detecting)) is detecting and detecting.suspicion(public.x).isfinite().all()
    for entry in (Mahalanobis(), LearnedDetector(), StatisticalTest(), LocalIntrinsicDimensionality()):
        with pytest.raises(Refused, match=f"{entry.kind()} follows what float layers read"):
            entry.structure(quantised, public.x[:1])


def test_a_model_without_layers_is_refused():
    with pytest.raises(Refused, match="needs linear or convolutional layers"):
        Mahalanobis().structure(nn.Flatten(), torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("entry", "knobs"),
    [
        (FeatureSqueezing, {"bits": 0}),
        (FeatureSqueezing, {"window": 2}),
        (FeatureSqueezing, {"false_positives": 0.0}),
        (Mahalanobis, {"shrinkage": 0.0}),
        (LocalIntrinsicDimensionality, {"neighbours": 1}),
        (LearnedDetector, {"radius": 1.5}),
        (StatisticalTest, {"bandwidth": 0.0}),
        (DefenseGAN, {"starts": 0}),
    ],
    ids=str,
)
def test_a_knob_out_of_range_is_refused(entry, knobs):
    with pytest.raises(Refused, match="is out of range"):
        entry(**knobs)


def test_a_window_for_no_picture_is_refused():
    with pytest.raises(Refused, match="a window of 3 pixels") as refused:
        FeatureSqueezing().check_fit((30,), 2)
    assert "window = 0" in refused.value.remedy
    FeatureSqueezing(window=0).check_fit((30,), 2)
