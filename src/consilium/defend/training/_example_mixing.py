"""Per-example gradients bound a record only if no example's forward pass depends on another's (LAWS 5).

BatchNorm breaks this twice: it mixes the examples of a batch, and its running statistics leave the site without noise.
Known layers are named; whatever else a user's module does is found by running it on synthetic inputs: answers in
batches of two and three, and for custom code answers and gradients in batches of every size class up to 513.  That is a
test; what it does on the training's own batches is compared again there (``learn.per_example.witness``).
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from consilium.core.errors import Unlawful
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.learn.custom_code import has_custom_code
from consilium.learn.fine_tuning.batch_statistics import batch_statistics
from consilium.learn.per_example.independence import TRAINING_SIZES, dependence, outlying, varied

__all__ = ["refuse_mixing"]

_REMEDY = 'use GroupNorm (model.norm = "group"), or freeze it: with train = "head" it is a constant'
_NUDGE = 0.05
"""Weights are perturbed by this, so that no layer is at zero; as in the proof of per-example gradients."""
_passed: WeakKeyDictionary[Network, set[tuple[int, ...]]] = WeakKeyDictionary()
"""Queried in every round of every site."""


def refuse_mixing(network: Network, shape: tuple[int, ...]) -> None:
    """Refuse a network that mixes examples, or whose buffers record them, for inputs of ``shape``."""
    if shape not in _passed.setdefault(network, set()):
        _refuse_mixing(network, shape)
        _passed[network].add(shape)


def _refuse_mixing(network: Network, shape: tuple[int, ...]) -> None:
    if mixing := batch_statistics(network):
        name, layer = mixing
        raise Unlawful(
            f"{type(layer).__name__} ({name or 'the model'}) mixes the examples of a batch, and its running "
            "statistics would leave the site without noise",
            law=5,
            remedy=_REMEDY,
        )
    with scoped(Stream(0, ("one-by-one",))), torch.no_grad():
        _probe(network, shape)
        if has_custom_code(network.template):
            _refuse_dependence(network, shape)


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
    after = buffers.clone()
    network.logits(params, after, one, training=True)
    if not torch.equal(after.nan_to_num(), buffers.nan_to_num()):
        raise Unlawful(
            "training changes the module's buffers: they would leave the site without noise",
            law=5,
            remedy="use a model whose buffers are constants",
        )
    _refuse_mixing_in_training(network, shape)


def _refuse_mixing_in_training(network: Network, shape: tuple[int, ...]) -> None:
    """One example at a time is then another function: x - mean(x) is zero for every example alone."""
    params, buffers = network.start()
    params = params + _NUDGE * torch.randn_like(params)
    x, others = torch.rand(2, 3, *shape, device=params.device)

    def answers(rows: Tensor, draws: int = 0) -> Tensor:
        with scoped(Stream(draws, ("training",))):
            return network.logits(params, buffers.clone(), rows, training=True)

    batch = answers(x)
    beside = [answers(torch.cat([others[:i], x[i : i + 1], others[i + 1 :]]))[i] for i in range(len(x))]
    mixed = not _same(batch, torch.stack(beside))
    # What is drawn for a batch is not what is drawn for one: only without draws can they be compared.
    random = not _same(batch, answers(x, draws=1))
    if mixed or not (random or _same(batch, torch.cat([answers(row[None]) for row in x]))):
        raise Unlawful(
            "in training mode an answer depends on the other examples of its batch, or on its place among them: "
            "per-example gradients, taken one at a time, would be those of another model",
            law=5,
            remedy="let forward treat each example alone in training mode too: no batch means, no mixing, no sorting",
        )


def _refuse_dependence(network: Network, shape: tuple[int, ...]) -> None:
    """Custom code may read the size of its batch, and mix in the backward pass alone."""
    params, buffers = network.start()
    at = params + _NUDGE * torch.randn_like(params)
    for records in (varied(shape, like=params), outlying(shape, like=params)):
        reason = dependence(network, at, buffers, records, TRAINING_SIZES)
        if reason is not None:
            raise Unlawful(
                f"in training mode, {reason}: clipping each bounds nothing",
                law=5,
                remedy="let forward and backward treat each example alone, in batches of every size",
            )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)
