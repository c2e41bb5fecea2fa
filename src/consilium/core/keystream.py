"""Noise that cannot be reproduced: numbers from a key that exists only while they are drawn.

    bytes  = SHAKE-256(key | counter)          a fresh 32-byte key of the operating system for every draw
    coin   = 53 bits / 2^53 < rate
    normal = +- ndtri((52 bits + 1/2) / 2^53)  inverse of the normal distribution function, 64 bits, |z| < 8.3

A generator such as mt19937 will not do: it takes a 64-bit seed and its state follows from 624 outputs.  Adding doubles
and rounding to the sum's own floats would distinguish values by their last bits, so a noised value is rounded to a grid
of 2^-20 deviations (a power of two), coarse against what doubles resolve and fine against the noise; rounding after the
noise costs no privacy.  About 30 ns for a value on one core, against 3 ns of torch.randn.

Source: FIPS 202 (SHAKE); Mironov 2012, CCS (what the last bits reveal, and rounding); Jin et al. 2022, S&P,
arXiv 2112.05307 (the same for Gaussian noise)
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
from typing import NoReturn

import torch
from torch import Tensor

from .errors import Refused

__all__ = ["Secret", "fresh_coins", "fresh_noised", "normals", "uniforms"]

_AT_ONCE = 1 << 18
_GRID = 20


class Secret:
    """32 bytes that stay in this process: they are not printed, not pickled, not copied and not compared.

    Without ``key`` they are drawn from the operating system.  :meth:`derive` gives a key for one purpose.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes | None = None) -> None:
        if key is not None and len(key) != 32:
            raise Refused(f"a secret has 32 bytes, not {len(key)}", remedy="leave it to the program to make one")
        self._key = os.urandom(32) if key is None else key

    def derive(self, purpose: str) -> bytes:
        """32 bytes for ``purpose``, HMAC-SHA-256: none reveals another or the secret."""
        return hmac.new(self._key, purpose.encode(), hashlib.sha256).digest()

    def __repr__(self) -> str:
        return "Secret()"

    def __reduce__(self) -> NoReturn:
        raise Refused("a secret does not leave its process", remedy="make the stream where the noise is drawn")


def fresh_noised(value: Tensor, deviation: float) -> Tensor:
    """``value`` plus Gaussian noise of this deviation under a key of its own, rounded to the grid; shape and type kept.

    Two calls never share noise, whatever their arguments.
    """
    grid = 2.0 ** (math.frexp(deviation)[1] - 1 - _GRID)
    noise = normals(os.urandom(32), value.numel()).reshape(value.shape).to(value.device)
    return ((value.double() + deviation * noise) / grid).round().mul(grid).to(value.dtype)


def fresh_coins(n: int, rate: float) -> Tensor:
    """``(n,)`` booleans, each true with probability ``rate``, under a key of their own."""
    return uniforms(os.urandom(32), n) < rate


def uniforms(key: bytes, n: int) -> Tensor:
    """``(n,)`` float64, multiples of 2^-53 in [0, 1), that ``key`` determines."""
    return ((_words(key, n) >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def normals(key: bytes, n: int) -> Tensor:
    """``(n,)`` float64, standard normal, that ``key`` determines."""
    words = _words(key, n)
    below = torch.special.ndtri((((words >> 12) & ((1 << 52) - 1)).double() + 0.5) * 2.0**-53)
    return torch.where((words & 1).bool(), below, -below)


def _words(key: bytes, n: int) -> Tensor:
    """``(n,)`` int64 of the key stream."""
    blocks = (
        hashlib.shake_256(key + block.to_bytes(8, "big")).digest(8 * min(_AT_ONCE, n - block * _AT_ONCE))
        for block in range(-(-n // _AT_ONCE))
    )
    return torch.frombuffer(bytearray(b"".join(blocks)), dtype=torch.int64) if n else torch.zeros(0, dtype=torch.int64)
