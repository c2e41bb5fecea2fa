"""FedPAQ's quantiser: unbiased, within the paper's variance bound, exact bytes; it is QSGD without buckets."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from consilium.core.errors import Refused
from consilium.core.update import Update, payload_bytes
from consilium.defend.update.fed_paq import FedPAQ
from consilium.defend.update.qsgd import QSGD

DRAWS = 2000


def surprise(v, levels, line):
    """The smallest p, over coordinates, of the mean of many roundings being v; the variance is the closed form's."""
    ours = line(FedPAQ(levels))
    mean = torch.stack([ours.read(v).double() for _ in range(DRAWS)]).mean(0).numpy()
    unit = float(v.double().norm()) / levels
    part = np.abs(v.double().numpy()) / unit % 1
    error = unit * np.sqrt(part * (1 - part) / DRAWS)
    return 2 * norm.sf(np.abs(mean - v.double().numpy()) / error).min()


@pytest.mark.parametrize("levels", [1, 5, 127])
def test_the_mean_of_many_roundings_is_what_was_rounded(line, draw, levels):
    v = draw(20)
    assert surprise(v, levels, line) > 1e-4 / len(v)


def test_rounding_down_would_fail_that_test(line, draw, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.ones(shape))
    assert surprise(draw(20), 5, line) < 1e-4 / 20


@pytest.mark.parametrize("levels", [1, 10, 127])
def test_the_variance_obeys_assumption_1(line, draw, levels):
    n, v = 100, draw(100)
    ours = line(FedPAQ(levels))
    error = np.mean([float((ours.read(v) - v).norm() ** 2) for _ in range(300)])
    assert 0 < error <= 1.05 * min(n / levels**2, math.sqrt(n) / levels) * float(v.norm() ** 2)


@pytest.mark.parametrize(("levels", "width"), [(1, 2), (2, 3), (3, 3), (5, 4), (7, 4), (127, 8), (128, 9), (32767, 16)])
def test_exact_bytes(line, draw, levels, width):
    message, _ = line(FedPAQ(levels)).send(draw(211))
    assert payload_bytes(message.payload) == math.ceil(211 * width / 8) + 4
    assert 2 * levels < 2**width <= 4 * levels + 2


def test_it_is_qsgd_with_one_bucket_and_the_length_as_scale(line, draw):
    v = draw(60)
    assert torch.equal(line(FedPAQ(7), 5).read(v), line(QSGD(4, 0, "l2"), 5).read(v))
    assert not torch.equal(line(FedPAQ(7), 5).read(v), line(QSGD(4, 16, "l2"), 5).read(v))


def test_a_code_above_2_s_is_refused():
    bad = {"delta.codes": torch.full((6,), 255, dtype=torch.uint8), "delta.norm": torch.ones(1)}
    with pytest.raises(Refused, match="fed-paq: delta: a level is out of range"):
        FedPAQ().enforce(Update("a", 1, 1.0, bad), {"delta": (6,)})


@pytest.mark.parametrize("levels", [0, 32_768])
def test_levels_have_a_range(levels):
    with pytest.raises(Refused, match="levels"):
        FedPAQ(levels)
