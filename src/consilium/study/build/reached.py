"""Whether training reaches every parameter: one that no gradient reaches is frozen, whatever ``requires_grad`` says.

    with torch.no_grad(): h = self.backbone(x)      the backbone is merged and, under DP, noised, and never trained

Looked for in several batches and at two sets of weights: a branch that one batch does not take, another may.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from consilium.core.errors import Refused
from consilium.core.inputs import random_inputs
from consilium.core.network import Network
from consilium.core.random import Stream, scoped

__all__ = ["check_in_place", "check_reached", "trial_loss"]


def trial_loss(answers: Tensor) -> Tensor:
    """A loss ``()`` of any answers ``(n, ...)``: cross-entropy with classes in turn, or squares where there is one."""
    classes = answers.shape[1]
    if classes < 2:
        return (answers - 1).square().mean()
    targets = torch.arange(len(answers), device=answers.device) % classes
    spatial = answers.shape[2:]
    return F.cross_entropy(answers, targets.view(-1, *(1,) * len(spatial)).expand(-1, *spatial))


def check_reached(network: Network, moved: tuple[Tensor, Tensor], x: Tensor) -> None:
    """Refuse a model with a parameter whose gradient is zero for ``x (n, *shape)`` and batches darker and brighter.

    Raises Refused: a parameter has no gradient in any of them, at either set of weights.
    """
    waiting = {name for name, p in network.parameters_at(network.start()[0]).items() if p.numel()}
    batches = _batches(x, network.tokens)
    for seed, (place, batch) in enumerate(product((network.start(), moved), batches)):
        if waiting:
            waiting -= _reached(network, place, batch, seed)
    if waiting:
        name, *others = [name for name in network.trained if name in waiting]
        more = f" and {len(others)} more" if others else ""
        raise Refused(
            f"no gradient reaches {name}{more}: it would never be trained, but merged and, under differential privacy, "
            "noised",
            remedy="leave out torch.no_grad, .detach() and round before it, take out layers that forward does not use, "
            "or freeze what is fixed: parameter.requires_grad = False",
            where="model",
        )


def check_in_place(network: Network, shape: tuple[int, ...], aims: Iterable[str]) -> None:
    """Refuse a model that writes into its inputs of ``shape``, where one of the ``aims`` of attacks is evasion.

    Raises Refused: no gradient can be taken in such inputs.
    """
    if network.tokens or "evasion" not in aims:
        return
    leaf = random_inputs(2, shape, 0, Stream(0, ("probe",)).generator()).to(network.start()[0].device)
    try:
        with scoped(Stream(0, ("probe", "in-place"))):
            network.logits(*network.start(), leaf.requires_grad_())
    except RuntimeError as error:
        if "in-place" not in str(error):
            raise
        raise Refused(
            "the model writes into its inputs (an in-place operation such as x.mul_, x[...] = or a first layer with "
            "inplace = True), so no attack can follow it",
            remedy="write x = x * 2, or x = x.clone() first",
            where="model",
        ) from error


def _batches(x: Tensor, tokens: int) -> tuple[Tensor, ...]:
    """``x`` and others like it: darker and brighter ones, or other words."""
    if tokens:
        draws = (Stream(number, ("probe", "words")).generator() for number in range(3))
        return (x, *(random_inputs(len(x), x.shape[1:], tokens, draw).to(x.device) for draw in draws))
    return x, x**4, 1 - x**4, torch.where(x > 0.5, 1 - 0.01 * x, 0.01 * x)


def _reached(network: Network, place: tuple[Tensor, Tensor], x: Tensor, seed: int) -> set[str]:
    """Names of the parameters with a gradient that is not zero."""
    with scoped(Stream(seed, ("probe", "reached"))):
        gradient, _ = network.workspace.gradient(*place, lambda predict: trial_loss(predict(x)))
    return {name for name, part in network.parameters_at(gradient).items() if bool((part != 0).any())}
