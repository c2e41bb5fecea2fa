"""Per-example gradients bound a record only if no example's forward pass depends on another's (LAWS 5).

BatchNorm breaks this twice: it mixes the examples of a batch, and its running statistics leave the site without noise.
Known layers are named; whatever else a user's module does is found by running it on synthetic inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from consilium.core.errors import Unlawful
from consilium.core.network import Network
from consilium.core.random import Stream, scoped

__all__ = ["refuse_mixing"]

_REMEDY = 'use GroupNorm (model.norm = "group")'


def refuse_mixing(network: Network, shape: tuple[int, ...]) -> None:
    """Refuse a network that mixes examples, or whose buffers record them, for inputs of ``shape``."""
    for name, module in network.template.named_modules():
        if isinstance(module, _BatchNorm) or (isinstance(module, _NormBase) and module.track_running_stats):
            raise Unlawful(
                f"{type(module).__name__} ({name or 'the model'}) mixes the examples of a batch, and its running "
                "statistics would leave the site without noise",
                law=5,
                remedy=_REMEDY,
            )
    with scoped(Stream(0, ("one-by-one",))), torch.no_grad():
        _probe(network, shape)


def _probe(network: Network, shape: tuple[int, ...]) -> None:
    params, buffers = network.start()
    one, other = torch.rand(2, 2, *shape, device=params.device)
    other = torch.stack([one[0], other[1]])
    if not _same(network.logits(params, buffers, one)[0], network.logits(params, buffers, other)[0]):
        raise Unlawful(
            "an answer depends on the other examples of its batch, so clipping each bounds nothing",
            law=5,
            remedy=_REMEDY,
        )
    if not len(buffers):
        return
    after = buffers.clone()
    network.logits(params, after, one, training=True)
    if not torch.equal(after.nan_to_num(), buffers.nan_to_num()):
        raise Unlawful(
            "training changes the module's buffers: they would leave the site without noise",
            law=5,
            remedy="use a model whose buffers are constants",
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)
