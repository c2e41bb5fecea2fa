"""Static int8: weights stored as 8-bit codes with a scale per channel, activations quantised to ranges fitted once.

    w ~ scale_c q,  q in -128..127;     a ~ scale (q - zero_point),  q in 0..255

BatchNorm is folded into the convolution before it; GroupNorm, InstanceNorm, PReLU and transposed convolutions run in
float between int8 layers, because torch's int8 kernels of them are wrong.  The ranges are fitted on public records,
never on private or test data (LAWS 10); sizes and times are those of real kernels (LAWS 21).

Source: Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Inference, arXiv 1712.05877
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from consilium.core.defence import ModelDefence
from consilium.core.entry import check
from consilium.core.errors import Unlawful
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._artefact import collect, fill_artefact, joined, split
from ._fx import quantise
from ._straight_through import StraightThrough

__all__ = ["StaticInt8"]


@dataclass(frozen=True)
class StaticInt8(ModelDefence):
    """Quantises the trained model to 8 bits after training, calibrated on the public slice; a quarter of the size."""

    tolerance: ClassVar[float] = 0.05
    """Where a float layer between int8 ones rounds the other way, the next code is one further: 0.014 was measured."""

    ends: ClassVar[bool] = True

    calibration: int = 64
    """Public records on which the ranges of activations are measured."""

    def __post_init__(self) -> None:
        check(1 <= self.calibration <= 1_000_000, "calibration", self.calibration, "a number of public records from 1")

    def fits_public(self) -> bool:
        """True: the activation ranges."""
        return True

    def wanted_public(self) -> int:
        """``calibration``, where it is not the default."""
        return 0 if self.calibration == type(self).calibration else self.calibration

    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """The int8 model, calibrated on ``calibration`` random public records (all, if there are fewer).

        Raises Unlawful: no public records to fit the ranges on (law 10).
        """
        if not len(public):
            raise Unlawful(
                "static-int8 has no public records to fit its ranges on", law=10, remedy="set data.public above 0"
            )
        rows = torch.randperm(len(public), generator=stream.generator())[: self.calibration]
        return quantise(module, list(torch.split(public.x[rows], 64)), proved=True)

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """``int8`` codes, ``float32`` scales, biases and norms, and zero points, end to end."""
        return joined(collect(module))

    def structure(self, module: nn.Module, example: Tensor) -> nn.Module:
        """The int8 architecture of the float ``module``; ranges are those of ``example`` and mean nothing yet."""
        return quantise(module, [example], search=False)

    def trial(self, module: nn.Module, x: Tensor) -> nn.Module:
        """The int8 model with ranges fitted on ``x``, its kernels compared with what they stand for."""
        return quantise(module, [x], proved=True)

    def unpack(self, module: nn.Module, artefact: Mapping[str, Tensor]) -> nn.Module:
        """The stored int8 model: the same logits to the last bit."""
        module = copy.deepcopy(module)
        return fill_artefact(module, split(artefact, collect(module)))

    def surrogate(self, defended: nn.Module, before: nn.Module | None) -> nn.Module | None:
        """Int8 forward, float backward."""
        return None if before is None else StraightThrough(defended, before)
