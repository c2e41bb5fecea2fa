"""Channel Lipschitzness pruning (CLP): channels that are far more sensitive than their layer's others become 0.

    bound_k = sigma_max(W_k) |gamma_k| / std_k        W_k: the filter of channel k as inputs x places
    pruned:  bound_k > mean + u deviation of the bounds of its layer

A trigger is small and must move the answer far, so what carries it is sensitive.  It looks at the weights alone and
needs no records: lawful everywhere, free of charge.  std_k is BatchNorm's running deviation.  GroupNorm, LayerNorm and
InstanceNorm divide by the deviation of the record at hand, which weights alone do not tell: here by that of the
channels that are normalised together under inputs of mean 0 and variance 1 that are not correlated, the root of the
mean |W_j|^2.  Without a norm the bound is sigma_max(W_k); of a linear layer that is the length of its row.

Source: Zheng et al. 2022, Data-free Backdoor Removal based on Channel Lipschitzness, arXiv 2208.03111 (BatchNorm)
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

from torch import Tensor, nn

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._channel_bounds import channel_bounds
from ._channels import hidden_channels, silenced
from ._repaired import Repaired

__all__ = ["ChannelLipschitznessPruning"]


@dataclass(frozen=True)
class ChannelLipschitznessPruning(Repaired):
    """Prunes the channels whose Lipschitz bound is far above that of their layer's others; needs no records."""

    u: float = 3.0
    """Deviations above the mean of its layer from which on a channel is pruned."""

    def __post_init__(self) -> None:
        check(0 < self.u <= 100, "u", self.u, "a number of deviations above 0, at most 100")

    def trial(self, module: nn.Module, x: Tensor) -> nn.Module:
        """The same architecture; refused if no layer has so many channels that one of them could stand out.

        Raises Refused: no channel of any layer can be u deviations above the mean of its layer.
        """
        widest = max(channels.count for channels in hidden_channels(module, x, self.kind()))
        if _furthest(widest) <= self.u:
            needed = next(n for n in range(widest, 10_100) if _furthest(n) > self.u)
            raise Refused(
                f"{self.kind()} with u = {self.u:g} can prune nothing: of n channels one stands out by "
                f"(n - 1) / sqrt(n) deviations at most, and the widest hidden layer has n = {widest} "
                f"({_furthest(widest):.2f})",
                remedy=f"set u below {_furthest(widest):.2f}, or use a layer of {needed} channels",
            )
        return self.structure(module, x[:1])

    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """The model without the channels that stand out; ``public`` tells the form of an input and nothing else."""
        pruned = copy.deepcopy(module).eval().requires_grad_(False)
        for channels in hidden_channels(pruned, public.x.new_zeros(2, *public.x.shape[1:]), self.kind()):
            bounds = channel_bounds(pruned, channels)
            if len(bounds) > 1:
                silenced(pruned, channels, bounds > bounds.mean() + self.u * bounds.std())
        return pruned


def _furthest(n: int) -> float:
    """How many (sample) deviations above their mean the largest of ``n`` numbers can be."""
    return (n - 1) / math.sqrt(n) if n > 1 else 0.0
