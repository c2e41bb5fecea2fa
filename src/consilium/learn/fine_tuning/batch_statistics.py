"""Layers that look at the whole batch: BatchNorm, and what else keeps running statistics.

Frozen, with statistics of its own, such a layer is a constant map of each record alone.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from consilium.core.network import Network

__all__ = ["batch_statistics"]


def batch_statistics(network: Network) -> tuple[str, nn.Module] | None:
    """Path and layer of the first that reads or writes statistics of a batch; None if there is none."""
    for path, layer in network.template.named_modules():
        if not isinstance(layer, _NormBase) or (not isinstance(layer, _BatchNorm) and not layer.track_running_stats):
            continue
        if path not in network.frozen_layers or layer.running_mean is None:
            return path, layer
    return None
