"""Local optimisers as pure functions on flat vectors; their state lives in ``Work.memory`` and ends with the round.

    sgd    v <- momentum v + g;  w <- w - lr v
    adam   m <- .9 m + .1 g;  s <- .999 s + .001 g^2;  w <- w - lr m^ / (sqrt(s^) + 1e-8)

Source: Sutskever et al. 2013 (momentum as in torch.optim.SGD); Kingma & Ba 2015, arXiv:1412.6980.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from consilium.core.algorithm import Work
from consilium.core.gradient import Gradient
from consilium.core.update import Payload

__all__ = ["Optimiser", "descend"]

Optimiser = Literal["sgd", "adam"]


def descend(work: Work, gradient: Gradient, optimiser: Optimiser, lr: float, momentum: float) -> Work:
    """One local step: new parameters ``(d,)``, the buffers of the forward pass, and the optimiser's state."""
    if optimiser == "adam":
        params, memory = _adam(work, gradient.value, lr)
    else:
        params, memory = _sgd(work, gradient.value, lr, momentum)
    return replace(work, params=params, buffers=gradient.buffers, steps=work.steps + 1, memory=memory)


def _sgd(work: Work, g: Tensor, lr: float, momentum: float) -> tuple[Tensor, Payload]:
    if momentum == 0.0:
        return work.params.add(g, alpha=-lr), work.memory
    velocity = work.memory["velocity"] * momentum + g if work.steps else g
    return work.params.add(velocity, alpha=-lr), {**work.memory, "velocity": velocity}


def _adam(work: Work, g: Tensor, lr: float) -> tuple[Tensor, Payload]:
    first, second = 0.9, 0.999
    mean = work.memory["mean"].lerp(g, 1 - first) if work.steps else g * (1 - first)
    square = (work.memory["square"] * second).addcmul(g, g, value=1 - second) if work.steps else g * g * (1 - second)
    t = work.steps + 1
    scale = (square / (1 - second**t)).sqrt().add_(1e-8)
    params = work.params.addcdiv(mean, scale, value=-lr / (1 - first**t))
    return params, {**work.memory, "mean": mean, "square": square}
