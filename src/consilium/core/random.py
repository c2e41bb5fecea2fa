"""Derived randomness: every random draw has an address, and the address alone decides it.

A :class:`Stream` is a seed and a path such as ``("noise", "site-2", 7)``.  Its generator is seeded with
SHA-256(seed, path), so two purposes never share numbers, order of execution does not matter, and a resumed
run draws exactly what the killed one would have drawn.

Noise and the coins of a sample are drawn by :meth:`Stream.noised` and :meth:`Stream.coins`, labels by the generator
:meth:`Stream.concealed`: in a simulation they are replayable like everything else; under a :class:`Secret` (a deployed
site) they cannot be reproduced from seed and address, and noise and coins are fresh at every call.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .errors import Refused
from .keystream import Secret, fresh_coins, fresh_noised

__all__ = ["Stream", "scoped"]


@dataclass(frozen=True)
class Stream:
    """An address in the tree of random draws; with a ``key``, noise, coins and labels are secret."""

    seed: int
    path: tuple[str | int, ...] = ()
    key: Secret | None = None

    @property
    def noise(self) -> Literal["replayable", "secret"]:
        """What a claim must state about the noise drawn here."""
        return "replayable" if self.key is None else "secret"

    def secretly(self, key: Secret) -> Stream:
        """The same address with secret noise, coins and labels: what a deployed site draws from."""
        return replace(self, key=key)

    def child(self, *parts: str | int) -> Stream:
        """The stream below this one at ``parts``."""
        return replace(self, path=(*self.path, *parts))

    def number(self) -> int:
        """The 63-bit seed that this address stands for, key or no key: for shuffles, which are not noise."""
        return int.from_bytes(hashlib.sha256(self._address().encode()).digest()[:8], "big") >> 1

    def keyed(self, ids: Tensor) -> Tensor:
        """A number for each of ``ids`` (int64 ``(n,)``): it follows from this address and that id alone.

        So the numbers drawn for a record depend neither on its position nor on the other records.
        """
        key = hashlib.sha256(self._address().encode()).digest()
        hashes = (hashlib.blake2b(i.to_bytes(8, "little", signed=True), digest_size=8, key=key) for i in ids.tolist())
        digests = bytearray(b"".join(h.digest() for h in hashes))
        return torch.frombuffer(digests, dtype=torch.int64) if digests else torch.zeros(0, dtype=torch.int64)

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator at the start of this stream."""
        return torch.Generator(device).manual_seed(self.number())

    def concealed(self) -> torch.Generator:
        """The same draws at every call, which under a key follow from the key: for what is drawn once per record."""
        if self.key is None:
            return self.generator()
        seed = int.from_bytes(self.key.derive(f"concealed\x1f{self._address()}")[:8], "big") >> 1
        return torch.Generator().manual_seed(seed)

    def noised(self, value: Tensor, deviation: float) -> Tensor:
        """``value`` plus Gaussian noise of this deviation; same shape, type and device.  Under a key never the same.

        Raises Refused: the deviation is not positive.
        """
        if not 0 < deviation < math.inf:
            raise Refused(
                f"the noise has deviation {deviation}, which protects nothing", remedy="use a positive deviation"
            )
        if self.key is not None:
            return fresh_noised(value, deviation)
        generator = self.generator(value.device)
        noise = torch.randn(value.shape, generator=generator, device=value.device, dtype=value.dtype)
        return noise.mul_(deviation).add_(value)

    def coins(self, n: int, rate: float) -> Tensor:
        """``(n,)`` booleans on the CPU, each true with probability ``rate``.  Under a key never the same."""
        if self.key is not None:
            return fresh_coins(n, rate)
        return torch.rand(n, generator=self.generator(), dtype=torch.float64) < rate

    def _address(self) -> str:
        return "\x1f".join([str(self.seed), *(f"{type(p).__name__}:{p}" for p in self.path)])


@contextmanager
def scoped(stream: Stream) -> Iterator[None]:
    """Seed torch's global generators inside the block and leave their state as it was before.

    For what reads the global generator and takes no other: layer initialisation, Dropout, user modules.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        # Not torch.manual_seed: on a machine without a GPU it leaves three stack traces behind, 0.3 ms.
        torch.default_generator.manual_seed(stream.number())
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(stream.number())
        yield
