"""Derived randomness: every random draw has an address, and the address alone decides it.

A :class:`Stream` is a seed and a path such as ``("noise", "site-2", 7)``.  Its generator is seeded with
SHA-256(seed, path), so two purposes never share numbers, order of execution does not matter, and a resumed
run draws exactly what the killed one would have drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

__all__ = ["Stream", "scoped"]


@dataclass(frozen=True)
class Stream:
    """An address in the tree of random draws."""

    seed: int
    path: tuple[str | int, ...] = ()

    def child(self, *parts: str | int) -> Stream:
        """The stream below this one at ``parts``."""
        return Stream(self.seed, (*self.path, *parts))

    def number(self) -> int:
        """The 63-bit seed that this address stands for."""
        text = "\x1f".join([str(self.seed), *(f"{type(p).__name__}:{p}" for p in self.path)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator at the start of this stream."""
        return torch.Generator(device).manual_seed(self.number())


@contextmanager
def scoped(stream: Stream) -> Iterator[None]:
    """Seed torch's global generators inside the block and leave their state as it was before.

    For what reads the global generator and takes no other: layer initialisation, Dropout, user modules.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(stream.number())
        yield
