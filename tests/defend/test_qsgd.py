"""QSGD: every coordinate lies on its grid and is unbiased by itself; the paper's variance bound holds."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from consilium.core.errors import Refused
from consilium.core.update import Update, payload_bytes
from consilium.defend.update.qsgd import QSGD

DRAWS = 2000
LEVEL = 1e-4


def grid(v, codec):
    """The oracle: for every coordinate its scale c, its lower level l and the chance of l + 1, one by one."""
    steps, out = 2 ** (codec.bits - 1) - 1, []
    width = codec.bucket or len(v)
    for i, x in enumerate(v):
        bucket = v[i // width * width : (i // width + 1) * width]
        c = max(abs(bucket)) if codec.scale == "max" else math.sqrt(sum(b * b for b in bucket))
        place = steps * abs(x) / c if c else 0.0
        out.append((c / steps, math.floor(place), place - math.floor(place)))
    return np.array(out)


def ups(v, codec, line, draws=DRAWS):
    """How often each coordinate was rounded up, and the number of draws; every value lies on one of its two levels."""
    unit, low, _ = grid(v.double().numpy(), codec).T
    count = np.zeros(len(v))
    ours = line(codec)
    for _ in range(draws):
        read = ours.read(v).double().numpy()
        level = np.abs(read) / np.where(unit == 0, 1, unit)
        up = level - low
        assert np.all((np.abs(up) < 1e-3) | (np.abs(up - 1) < 1e-3))
        assert np.all((read == 0) | (np.sign(read) == np.sign(v.numpy())))
        count += up > 0.5
    return count


def least(v, codec, count):
    """The smallest p of all coordinates that the chance of rounding up is the oracle's."""
    chance = grid(v.double().numpy(), codec)[:, 2]
    return min(
        binomtest(int(k), DRAWS, float(p)).pvalue for k, p in zip(count, chance, strict=True) if 1e-4 < p < 1 - 1e-4
    )


CODECS = [QSGD(4, 8, "max"), QSGD(4, 8, "l2"), QSGD(2, 0, "l2"), QSGD(8, 0, "max")]


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_rounding_is_unbiased_coordinate_by_coordinate(line, draw, codec):
    v = draw(20)
    count = ups(v, codec, line)
    assert least(v, codec, count) > LEVEL / len(v)


def test_rounding_to_the_nearest_would_fail_that_test(line, draw, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, 0.5))
    v, codec = draw(20), CODECS[0]
    assert least(v, codec, ups(v, codec, line)) < LEVEL / len(v)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_variance_obeys_the_papers_bound(line, draw, bits):
    n, s = 100, 2 ** (bits - 1) - 1
    v, ours = draw(n), line(QSGD(bits, 0, "l2"))
    error = np.mean([float((ours.read(v) - v).norm() ** 2) for _ in range(300)])
    assert error <= 1.05 * min(n / s**2, math.sqrt(n) / s) * float(v.norm() ** 2)
    assert error > 0


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("bucket", [0, 1, 7, 512])
def test_exact_bytes(line, draw, bits, bucket):
    message, read = line(QSGD(bits, bucket)).send(draw(211))
    buckets = 1 if bucket == 0 else math.ceil(211 / bucket)
    assert payload_bytes(message.payload) == math.ceil(211 * bits / 8) + 4 * buckets
    assert read.payload["delta"].shape == (211,)


def test_a_bucket_of_zeros_stays_zero_and_nothing_is_kept(line):
    ours = line(QSGD(4, 8))
    assert torch.equal(ours.read(torch.zeros(20)), torch.zeros(20))
    assert ours.memory == {}


def test_other_seeds_other_rounding_same_seed_same(line, draw):
    v = draw(50)
    assert torch.equal(line(QSGD(), 1).read(v), line(QSGD(), 1).read(v))
    assert not torch.equal(line(QSGD(), 1).read(v), line(QSGD(), 2).read(v))


def test_a_code_that_stands_for_nothing_is_refused():
    bad = {"delta.codes": torch.full((3,), 255, dtype=torch.uint8), "delta.scales": torch.ones(1)}
    with pytest.raises(Refused, match="qsgd: delta: a level is out of range"):
        QSGD(4, 0).enforce(Update("a", 1, 1.0, bad), {"delta": (6,)})


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf])
def test_a_scale_that_is_none_is_refused(scale):
    bad = {"delta.codes": torch.zeros(3, dtype=torch.uint8), "delta.scales": torch.tensor([scale])}
    with pytest.raises(Refused, match="qsgd: delta: a scale"):
        QSGD(4, 0).enforce(Update("a", 1, 1.0, bad), {"delta": (6,)})


@pytest.mark.parametrize("knobs", [{"bits": 1}, {"bits": 9}, {"bucket": -1}])
def test_knobs_have_ranges(knobs):
    with pytest.raises(Refused, match=next(iter(knobs))):
        QSGD(**knobs)
