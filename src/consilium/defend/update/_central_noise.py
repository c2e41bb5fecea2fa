"""The server's half of DP-FedAvg: the sum of bounded updates plus Gaussian noise, over the cohort that was expected.

    (sum_k u_k + N(0, (z C)^2 I)) / m           every u_k at most C long, of every site; m fixed before training

The clip may follow a quantile of the updates' lengths: b_k is 1/2 where u_k was short enough and -1/2 where it was cut,

    b = 1/2 + (sum_k b_k + N(0, s^2)) / m,      C <- C exp(-rate (b - quantile))

and the sum's noise grows to (z^-2 - (2 s)^-2)^(-1/2), so that sum and count together cost what z costs.

Source: McMahan et al. 2018, arXiv 1710.06963, algorithm 1; Andrew et al. 2021, arXiv 1905.03871, algorithm 1, theorem 1
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from consilium.core.merge import Aggregator
from consilium.core.random import Stream
from consilium.core.update import Aggregate, Payload, Update

__all__ = ["CLIP", "INSIDE", "CentralNoise", "Quantile", "noise_of_the_sum"]

CLIP = "update-clip"
"""The clip of the coming round, ``(1,)``: in the merge's memory, and with the broadcast."""

INSIDE = "inside"
"""Whether an update was short enough, ``(1,)``: 1/2 or -1/2."""

_NARROW, _WIDE = 1e-6, 1e6


@dataclass(frozen=True)
class Quantile:
    """Which quantile of the lengths the clip follows, how fast, and the deviation of the noise on the count."""

    aim: float
    speed: float
    noise: float


def noise_of_the_sum(z: float, count_noise: float) -> float:
    """z of the sum where a count with this noise is released too; infinite where the count alone costs more than z."""
    remainder = z**-2 - (2 * count_noise) ** -2
    return remainder**-0.5 if remainder > 0 else math.inf


@dataclass(frozen=True, eq=False)
class CentralNoise(Aggregator):
    """Every site counts once, its weight is ignored; the divisor is ``expected`` sites, not the number received."""

    clip: float
    noise_multiplier: float
    expected: float
    stream: Stream
    quantile: Quantile | None = None

    reads: Literal["sum", "each"] = "sum"
    least: int = 0

    def broadcast_memory(self, memory: Payload) -> Payload:
        """The clip of the coming round, where it moves."""
        return {} if self.quantile is None else {CLIP: memory.get(CLIP, torch.tensor([self.clip]))}

    def expects(self) -> Mapping[str, tuple[int, ...]]:
        """``inside (1,)``, where the clip moves."""
        return {} if self.quantile is None else {INSIDE: (1,)}

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """The noisy mean of updates that a server half has bounded; their weights are not read."""
        number, total = _sum(updates)
        here = self.stream.child("round", number)
        deviation = self._noise() * float(self.broadcast_memory(memory).get(CLIP, self.clip))
        payload = {
            name: self._noised(tensor, deviation, here.child(name)) / self.expected
            for name, tensor in total.items()
            if name != INSIDE
        }
        return Aggregate(payload, self.expected, round(self.expected)), self._moved(total, memory, here)

    def _noise(self) -> float:
        if self.quantile is None:
            return self.noise_multiplier
        return noise_of_the_sum(self.noise_multiplier, self.quantile.noise)

    def _moved(self, total: Payload, memory: Payload, here: Stream) -> Payload:
        if self.quantile is None:
            return memory
        counted = self._noised(total[INSIDE].double(), self.quantile.noise, here.child(INSIDE))
        share = 0.5 + float(counted) / self.expected
        clip = float(self.broadcast_memory(memory)[CLIP]) * math.exp(-self.quantile.speed * (share - self.quantile.aim))
        return {**memory, CLIP: torch.tensor([min(max(clip, _NARROW), _WIDE)])}

    @staticmethod
    def _noised(total: Tensor, deviation: float, stream: Stream) -> Tensor:
        return stream.noised(total, deviation) if total.numel() else total


def _sum(updates: Iterable[Update]) -> tuple[int, dict[str, Tensor]]:
    """The updates' round, and the sum of each part of their payload in the order of the updates."""
    number, total = 0, dict[str, Tensor]()
    for update in updates:
        number = update.round
        for name, tensor in update.payload.items():
            if name in total:
                total[name] += tensor
            else:
                total[name] = tensor.clone()
    return number, total
