"""Noise that is drawn from the record itself: the same record meets the same noise whenever it is asked about.

    key(x) = BLAKE2b(bytes of x);   z_1, ..., z_k ~ N(0, I) from a generator seeded with key(x)

So an answer that needs randomness is still a function of its record: it depends on no other record of a batch, and
asking again teaches nothing new.  Two records that differ in a bit meet independent noise.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

__all__ = ["record_noise"]

_SEEDS = 1 << 63


def record_noise(x: Tensor, count: int) -> Tensor:
    """Standard normal noise ``(n, count, *shape)`` for the records ``x (n, *shape)``, drawn on the CPU."""
    return torch.stack([_noise(record, count) for record in x]).to(x)


def _noise(record: Tensor, count: int) -> Tensor:
    key = hashlib.blake2b(record.detach().cpu().contiguous().numpy().tobytes(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key, "big") % _SEEDS)
    return torch.randn(count, *record.shape, generator=generator)
