"""Inner maximisation: the worst input in a small ball around each example.

    x_0 = x (+ uniform noise in the ball),   x_{t+1} = P(x_t + a * u(grad_x CE(f(x_t), y)))

u is the sign (linf) or the unit vector (l2), P the projection onto the ball of ``radius`` around x cut with [0, 1].
One loop serves PGD the attack and adversarial training the defence.  Every example is treated on its own: what comes
out for it depends on it, the weights and its own noise alone, so per-example clipping still bounds it (LAWS 5).

Source: Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv 1706.06083.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from consilium.core.errors import Refused
from consilium.core.gradient import Predict

__all__ = ["Loss", "Norm", "fooled", "margin", "maximise", "project", "sizes"]

Norm = Literal["linf", "l2"]
Loss = Literal["cross-entropy", "margin"]

_RESOLUTION = 1e-5
"""A lead below this share of the largest logit may turn round when the same image is scored in another batch."""


def maximise(
    predict: Predict,
    x: Tensor,
    y: Tensor,
    *,
    radius: float,
    steps: int,
    step_size: float,
    norm: Norm,
    random_start: bool,
    generator: torch.Generator,
    loss: Loss = "cross-entropy",
    active: bool = False,
    judge: Predict | None = None,
) -> Tensor:
    """Inputs ``(n, *shape)`` in [0, 1], within ``radius`` of ``x``, that raise the ``loss`` at ``y (n,)``.

    ``predict`` must be differentiable in its input (else ``Refused``); the weights' ``.grad`` is never touched.  With
    ``active`` an example stops at the first point that is answered wrongly, x itself included, and the rest go on.
    Whose answer counts is ``judge``, where the model attacked is not the one whose gradients are followed.
    """
    walk = _Walk(predict, judge, radius, steps, step_size, norm, _LOSSES[loss])
    start = project(x + _noise(x, radius, norm, generator), x, radius, norm) if random_start else x.clone()
    if not active:
        return walk.to_the_end(start, x, y)
    # Without a random start the walk's first point is x, and the walk judges it itself.
    wrong = walk.wrong(x, y) if random_start else torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return walk.until_wrong(start, x, y, torch.nonzero(~wrong)[:, 0])


def project(x_adv: Tensor, x: Tensor, radius: float, norm: Norm) -> Tensor:
    """``x_adv (n, *shape)`` moved into the ball of ``radius`` around ``x`` and into [0, 1].

    Cutting to [0, 1] last never leaves the ball again, because x lies in [0, 1].
    """
    delta = x_adv - x
    if norm == "linf":
        delta = delta.clamp(-radius, radius)
    else:
        size = _rows(sizes(delta, norm), delta)
        delta = torch.where(size > radius, delta * (radius / size.clamp_min(_tiny(size))), delta)
    return (x + delta).clamp(0, 1)


def sizes(delta: Tensor, norm: Norm) -> Tensor:
    """The size ``(n,)`` of each perturbation ``(n, *shape)``."""
    size: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=float("inf") if norm == "linf" else 2, dim=1)
    return size


def fooled(logits: Tensor, y: Tensor) -> Tensor:
    """Which answers ``(n, classes)`` are wrong by a lead that floating point cannot turn round, ``(n,)`` bool.

    Answers may be -inf (a probability rounded to 0); a NaN fools nobody.
    """
    answers = logits.detach()
    scale = answers.abs().masked_fill(~answers.isfinite(), 0).amax(1)
    return margin(answers, y) > _RESOLUTION * scale


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """By how much the best wrong answer leads over the right one, ``(n,)``: z_j - z_y, largest over j != y.

    Its gradient does not vanish where a model is sure of itself, as that of the cross-entropy does.

    Source: Carlini and Wagner 2017, Towards Evaluating the Robustness of Neural Networks, arXiv 1608.04644 (f6).
    """
    wrong = logits.scatter(1, y[:, None], -math.inf).amax(1)
    return wrong - logits.gather(1, y[:, None])[:, 0]


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


_LOSSES: Mapping[Loss, Callable[[Tensor, Tensor], Tensor]] = {"cross-entropy": _cross_entropy, "margin": margin}


@dataclass(frozen=True)
class _Walk:
    predict: Predict
    judge: Predict | None
    radius: float
    steps: int
    step_size: float
    norm: Norm
    loss: Callable[[Tensor, Tensor], Tensor]

    def to_the_end(self, point: Tensor, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(self.steps):
            point = self.stepped(point, self.ascent(point, y)[0], x)
        return point

    def until_wrong(self, start: Tensor, x: Tensor, y: Tensor, alive: Tensor) -> Tensor:
        out, point = x.clone(), start[alive]
        for _ in range(self.steps):
            if not len(alive):
                break
            # One forward pass serves both: the gradient of this step and the verdict on where it stands.
            gradient, logits = self.ascent(point, y[alive])
            wrong = self.wrong(point, y[alive]) if self.judge else fooled(logits, y[alive])
            out[alive[wrong]] = point[wrong]
            alive, point, gradient = alive[~wrong], point[~wrong], gradient[~wrong]
            point = self.stepped(point, gradient, x[alive])
        out[alive] = point
        return out

    def stepped(self, point: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
        return project(point + self.step_size * _direction(gradient, self.norm), x, self.radius, self.norm)

    def wrong(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return fooled((self.judge or self.predict)(x), y)

    def ascent(self, point: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = point.detach().requires_grad_(True)
            logits = self.predict(leaf)
            if not logits.requires_grad:
                raise Refused(
                    "the model answers without gradients, so a gradient attack cannot follow it",
                    remedy="give a differentiable surrogate",
                )
            # The sum, not the mean: an example's gradient must not depend on how many others there are.
            (gradient,) = torch.autograd.grad(self.loss(logits, y).sum(), leaf)
        return torch.nan_to_num(gradient), logits.detach()


def _direction(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    # Scaled by its largest entry first: squares of tiny gradients would underflow to a zero length.
    largest = _rows(sizes(gradient, "linf"), gradient)
    scaled = gradient / largest.clamp_min(_tiny(gradient))
    return scaled / _rows(sizes(scaled, "l2"), scaled).clamp_min(_tiny(gradient))


def _noise(x: Tensor, radius: float, norm: Norm, generator: torch.Generator) -> Tensor:
    """Uniform in the ball: a cube, or a Gaussian direction at a distance of radius * U^(1/d)."""
    if norm == "linf":
        uniform = torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return (radius * (2 * uniform - 1)).to(x.device)
    normal = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
    share = torch.rand(len(x), generator=generator, device=generator.device, dtype=x.dtype)
    distance = radius * share ** (1 / max(1, x[0].numel() if len(x) else 1))
    return (_direction(normal, "l2") * _rows(distance, normal)).to(x.device)


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _tiny(like: Tensor) -> float:
    return float(torch.finfo(like.dtype).tiny)
