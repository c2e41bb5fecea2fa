"""Networks of an adversary's own: small, for pictures or for rows of numbers, and trained here.

Initialisation and batches follow from a generator, so that no global one is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import torch
from torch import Tensor, nn

from consilium.core.random import Stream, scoped

__all__ = ["Centred", "classifier", "minibatches", "perturber", "seeded"]

_HIDDEN, _CHANNELS, _SMALLEST = 128, 16, 8
_SOFT = 0.25
"""Deviations below which the tanh of a change is still soft."""


class Centred(nn.Module):
    """Numbers of that mean and deviation, brought to mean 0 and deviation 1: records may differ by very little."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, max(deviation, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return (x - self.mean) / self.deviation


def classifier(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Logits ``(n, classes)``: two convolutions and two layers for pictures of 8 pixels or more, else two layers."""
    if not _is_picture(shape):
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, classes))
    sides = [(((length + 1) // 2) + 1) // 2 for length in shape[1:]]
    return nn.Sequential(
        nn.Conv2d(shape[0], _CHANNELS, 3, 2, 1), nn.ReLU(), nn.Conv2d(_CHANNELS, 2 * _CHANNELS, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * _CHANNELS * prod(sides), _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, classes),
    )  # fmt: skip


def perturber(shape: tuple[int, ...]) -> nn.Module:
    """A change in [-1, 1] of the shape of the input: convolutions for pictures, else two layers.

    It is normalised before the tanh: else the first steps drive every value to one end, where nothing is learned.
    """
    if not _is_picture(shape):
        d = prod(shape)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(d, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, d),
            nn.LayerNorm(d, elementwise_affine=False), Centred(0, _SOFT), nn.Tanh(), nn.Unflatten(1, shape),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(shape[0], _CHANNELS, 3, 1, 1), nn.ReLU(), nn.Conv2d(_CHANNELS, _CHANNELS, 3, 1, 2, 2), nn.ReLU(),
        nn.Conv2d(_CHANNELS, _CHANNELS, 3, 1, 4, 4), nn.ReLU(), nn.Conv2d(_CHANNELS, shape[0], 3, 1, 1),
        nn.GroupNorm(1, shape[0], affine=False), Centred(0, _SOFT), nn.Tanh(),
    )  # fmt: skip


def seeded(build: Callable[[], nn.Module], generator: torch.Generator) -> nn.Module:
    """What ``build`` makes, initialised from ``generator`` and with no global one touched."""
    number = int(torch.randint(1 << 62, (1,), generator=generator, device=generator.device))
    with scoped(Stream(number)):
        return build()


def minibatches(n: int, size: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of every batch of ``epochs`` shuffled passes over ``n`` records."""
    for _ in range(epochs):
        yield from torch.split(torch.randperm(n, generator=generator, device=generator.device), size)


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and min(shape[1:]) >= _SMALLEST
