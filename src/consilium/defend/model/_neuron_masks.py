"""A model whose hidden channels are scaled and shifted by a factor each, as a function of these factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ._channels import Channels
from ._pruned_within import Place

__all__ = ["NeuronMasks"]


@dataclass(frozen=True, eq=False)
class NeuronMasks:
    """``count`` neurons: the channels of ``layers``, one layer after the other."""

    module: nn.Module
    layers: tuple[Channels, ...]

    @staticmethod
    def of(module: nn.Module, layers: Sequence[Channels]) -> NeuronMasks:
        """Those of ``layers`` whose channels have a weight each."""
        return NeuronMasks(module, tuple(c for c in layers if "weight" in c.names(module)))

    @property
    def count(self) -> int:
        """The number of neurons."""
        return sum(channels.count for channels in self.layers)

    def place(self, number: int) -> Place:
        """The layer of neuron ``number``, and its number there."""
        for channels in self.layers:
            if number < channels.count:
                return channels, number
            number -= channels.count
        raise IndexError(number)

    def answers(self, scales: Tensor, shifts: Tensor, x: Tensor) -> Tensor:
        """What the model answers to ``x`` where weights are times ``scales (count,)`` and biases times ``shifts``."""
        sizes, tensors = [channels.count for channels in self.layers], {}
        parts = zip(self.layers, torch.split(scales, sizes), torch.split(shifts, sizes), strict=True)
        for channels, scale, shift in parts:
            for kind, name in channels.names(self.module).items():
                parameter, factor = self.module.get_parameter(name).detach(), scale if kind == "weight" else shift
                tensors[name] = parameter * factor.view(-1, *[1] * (parameter.dim() - 1))
        answers: Tensor = functional_call(self.module, tensors, (x,))
        return answers
