"""Secret noise: it has the right distribution, it never comes twice, and its key goes nowhere."""

import copy
import json
import pickle

import pytest
import torch
from scipy import stats

from consilium.core import keystream
from consilium.core.errors import Refused
from consilium.core.keystream import Secret, normals, uniforms
from consilium.core.random import Stream

KEY = bytes(range(32))
HIDDEN = Stream(7).child("noise", "site-2", 3).secretly(Secret())
N = 400_000


def test_normals_are_normal():
    z = normals(KEY, N)
    assert z.dtype == torch.float64 and stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    moments = [float((z**k).mean()) for k in (1, 2, 3, 4)]
    for moment, wanted, variance in zip(moments, (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert abs(moment - wanted) < 4 * (variance / N) ** 0.5
    tails = [int((z.abs() > t).sum()) for t in (3, 4)]
    assert all(
        stats.binomtest(count, N, 2 * stats.norm.sf(t)).pvalue > 1e-3 for count, t in zip(tails, (3, 4), strict=True)
    )


@pytest.mark.parametrize("wrong", [lambda z: z * 1.02, lambda z: z + 0.01, lambda z: z.clamp(-2.5, 2.5)])
def test_the_normality_test_can_fail(wrong):
    assert stats.kstest(wrong(normals(KEY, N)).numpy(), "norm").pvalue < 1e-3


def test_the_extremes_of_the_inverse_are_finite():
    """All bits zero or one: about 8.3 deviations, never infinity."""
    ends = torch.tensor([0.5, 2**52 - 0.5], dtype=torch.float64) * 2.0**-53
    assert -8.4 < float(torch.special.ndtri(ends[0])) < -8.2 and abs(float(torch.special.ndtri(ends[1]))) < 1e-15


def test_uniforms_are_uniform_and_coins_fair():
    u = uniforms(KEY, N)
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-3 and float(u.min()) >= 0 and float(u.max()) < 1
    for rate in (0.01, 0.5, 0.97):
        assert stats.binomtest(int(HIDDEN.coins(N, rate).sum()), N, rate).pvalue > 1e-7
    assert not HIDDEN.coins(1000, 0.0).any() and HIDDEN.coins(1000, 1.0).all()
    assert HIDDEN.coins(0, 0.5).shape == (0,)


def test_blocks_are_one_stream_and_do_not_repeat(monkeypatch):
    """The first words do not depend on how many are drawn, and the blocks of a long draw differ."""
    monkeypatch.setattr(keystream, "_AT_ONCE", 64)
    long = normals(KEY, 1000)
    assert torch.equal(normals(KEY, 70), long[:70]) and len(long.unique()) == 1000
    assert not torch.equal(normals(bytes(32), 1000), long)


def test_neighbours_are_uncorrelated():
    z = normals(KEY, N)
    for lag in (1, 2, 7):
        assert abs(float((z[lag:] * z[:-lag]).mean())) < 4 / N**0.5


# --- the stream under a key ---------------------------------------------------------------------------------------


def test_secret_noise_never_comes_twice():
    """Same address, same key, same value: rounds that are drawn again must not cancel."""
    value = torch.zeros(1000)
    draws = torch.stack([HIDDEN.noised(value, 1.0) for _ in range(50)])
    overlap = (draws @ draws.T / 1000 - torch.eye(50)).abs()
    assert overlap.max() < 6 * (2 / 1000) ** 0.5
    assert not torch.equal(HIDDEN.coins(1000, 0.5), HIDDEN.coins(1000, 0.5))


def test_replayable_noise_does():
    """What the check above would catch."""
    open_ = Stream(7).child("noise")
    assert torch.equal(open_.noised(torch.zeros(9), 1.0), open_.noised(torch.zeros(9), 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("deviation", [1e-12, 0.37, 1e6])
def test_secret_noise_has_its_deviation_and_keeps_type_and_shape(dtype, deviation):
    value = torch.linspace(-1, 1, 40_000, dtype=dtype).reshape(200, 200) * deviation
    noise = (HIDDEN.noised(value, deviation) - value).double().flatten() / deviation
    assert HIDDEN.noised(value, deviation).dtype == dtype and HIDDEN.noised(value, deviation).shape == (200, 200)
    assert stats.kstest(noise.numpy(), "norm").pvalue > 1e-5


def test_what_is_released_lies_on_a_grid_that_does_not_depend_on_the_value():
    """Otherwise the last bits of a sum of floats tell which sums it can have been."""
    grid = 2.0**-21
    for value in (0.0, 0.1, 1 / 3):
        out = HIDDEN.noised(torch.full((1000,), value, dtype=torch.float64), 0.9) / grid
        assert torch.equal(out, out.round()) and float((out % 2).mean()) == pytest.approx(0.5, abs=0.1)
    plain = Stream(0).noised(torch.full((1000,), 0.1, dtype=torch.float64), 0.9) / grid
    assert not torch.equal(plain, plain.round()), "the check can fail"


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("inf"), float("nan")])
def test_noise_that_hides_nothing_is_refused(deviation):
    for stream in (HIDDEN, Stream(0)):
        with pytest.raises(Refused, match="protects nothing"):
            stream.noised(torch.zeros(3), deviation)


def test_shuffles_are_those_of_the_simulation_and_labels_are_not():
    plain = Stream(7).child("noise", "site-2", 3)
    assert HIDDEN.number() == plain.number() and (HIDDEN.noise, plain.noise) == ("secret", "replayable")
    draw = lambda stream: torch.rand(5, generator=stream.concealed()).tolist()  # noqa: E731
    same = Stream(7).secretly(Secret(KEY)).child("a"), Stream(7).child("a").secretly(Secret(KEY))
    assert draw(same[0]) == draw(same[1]) != draw(Stream(7).child("a").secretly(Secret(bytes(32))))
    assert draw(plain) == torch.rand(5, generator=plain.generator()).tolist() != draw(HIDDEN)


def test_the_key_goes_nowhere():
    secret = Secret(KEY)
    stream = Stream(7).secretly(secret).child("noise")
    for said in (repr(secret), str(secret), f"{stream!r}", json.dumps(stream.path)):
        assert KEY.hex() not in said and repr(KEY) not in said
    assert repr(secret) == "Secret()" and not hasattr(secret, "__dict__")
    for escape in (pickle.dumps, copy.deepcopy):
        for held in (secret, stream):
            with pytest.raises(Refused, match="does not leave its process"):
                escape(held)
    assert secret != Secret(KEY) and secret.derive("a") != secret.derive("b")


def test_a_secret_of_another_length_is_refused():
    with pytest.raises(Refused, match="32 bytes"):
        Secret(b"short")
