"""The place of each parameter in the flat vector, and the layer it belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from consilium.core.network import Network

from .layer_gradients import LayerGradients

__all__ = ["Leaves", "ParameterGradients"]


@dataclass(frozen=True, eq=False)
class ParameterGradients:
    """The gradients of one layer and the numbers of the parameters that they are of."""

    numbers: tuple[int, ...]
    gradients: LayerGradients


@dataclass(frozen=True)
class Leaves:
    """``offsets`` and ``layer`` of every parameter in the flat vector's order; ``layers`` counts those that train."""

    offsets: tuple[int, ...]
    layer: tuple[int, ...]
    layers: int

    @classmethod
    def of(cls, network: Network, leaves: Sequence[Tensor] | None = None) -> Leaves:
        """Of ``leaves``, which split the flat vector, perhaps finer than the network's own parameters do."""
        starts, owners, at = [], [], 0
        parameters = network.parameters_at(network.start()[0])
        for name, p in parameters.items():
            starts.append(at)
            owners.append(name.rpartition(".")[0])
            at += p.numel()
        number = {owner: i for i, owner in enumerate(dict.fromkeys(owners))}
        offsets, at = [], 0
        for leaf in parameters.values() if leaves is None else leaves:
            offsets.append(at)
            at += leaf.numel()
        layer = (number[owners[bisect_right(starts, offset) - 1]] for offset in offsets)
        return cls(tuple(offsets), tuple(layer), len(number))
