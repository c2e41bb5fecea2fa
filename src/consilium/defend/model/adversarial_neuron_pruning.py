"""Adversarial neuron pruning (ANP): what a perturbation of the neurons makes answer wrong on clean records, becomes 0.

    minimise over m in [0, 1]^n:  a L(m w, b) + (1 - a) max over |d|, |e| <= radius of L((m + d) w, (1 + e) b)
    pruned: neurons whose m falls below ``threshold``, the least first, within ``max-fall`` of accuracy

w and b are what scales and shifts each channel of a hidden layer: gamma and beta of the norm after it (Batch-, Group-,
Layer-), else its filter and bias.  The neurons of a backdoor are sensitive: enlarged, they answer the target without a
trigger.  The inner maximum is one step of the gradient's sign from a random start.  A pruned neuron keeps its shift.
Records are public (LAWS 10), so no epsilon is spent.

Source: Wu & Wang 2021, Adversarial Neuron Pruning Purifies Backdoored Deep Models, arXiv 2110.14430 (on BatchNorm)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.core.entry import check
from consilium.core.errors import Failed
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._channels import hidden_channels
from ._fine_tuning import check_gradient, public_batches
from ._neuron_masks import NeuronMasks
from ._pruned_within import Place, pruned_within
from ._repaired import Repaired

__all__ = ["AdversarialNeuronPruning"]

_BATCH, _MOMENTUM = 128, 0.9


@dataclass(frozen=True)
class AdversarialNeuronPruning(Repaired):
    """Learns on public records which channels make the model wrong when they are perturbed, and prunes those."""

    radius: float = 0.4
    """How far weights and biases of a channel are perturbed, as a share of them."""
    alpha: float = 0.2
    """Weight of the loss without perturbation against the one with it."""
    threshold: float = 0.2
    """Masks below this are pruned."""
    max_fall: float = 0.02
    """How far the accuracy on public records may fall by pruning, as a share of the records."""
    steps: int = 500
    """Steps in which the masks are learned, of 128 public records each."""
    lr: float = 0.2
    """Learning rate of the masks."""

    def __post_init__(self) -> None:
        check(0 < self.radius <= 10, "radius", self.radius, "a share above 0, at most 10")
        check(0 <= self.alpha < 1, "alpha", self.alpha, "a weight from 0, below 1")
        check(0 < self.threshold <= 1, "threshold", self.threshold, "a mask above 0, at most 1")
        check(0 <= self.max_fall < 1, "max_fall", self.max_fall, "a share from 0, below 1")
        check(1 <= self.steps <= 1_000_000, "steps", self.steps, "1 to 1000000 steps")
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")

    def fits_public(self) -> bool:
        """True: masks and accuracy are those of public records."""
        return True

    def trial(self, module: nn.Module, x: Tensor) -> nn.Module:
        """The same architecture; refused if there is no hidden layer, or no gradient reaches its weights."""
        hidden_channels(module, x, self.kind())
        check_gradient(copy.deepcopy(module).eval(), x, self.kind(), f"leave out {self.kind()}")
        return self.structure(module, x[:1])

    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """The model without the channels whose mask fell below the threshold.

        Raises Unlawful: no public records (law 10).
        """
        self._require(public)
        module = copy.deepcopy(module).eval().requires_grad_(False)
        masks = NeuronMasks.of(module, hidden_channels(module, public.x[:2], self.kind()))
        learned = self._learned(masks, public, stream, task)
        order: list[Place] = [masks.place(i) for i in learned.argsort(stable=True).tolist()]
        below = order[: int((learned < self.threshold).sum())]
        return pruned_within(module, below, public, task, self.max_fall, shifts=False)[0]

    def _learned(self, masks: NeuronMasks, public: Records, stream: Stream, task: Task) -> Tensor:
        """The mask of every neuron, ``(n,)``."""
        mask, speed = torch.ones(masks.count), torch.zeros(masks.count)
        draws = stream.child("perturbation").generator()
        for rows in public_batches(len(public), self.steps, stream, _BATCH):
            x, y = public.x[rows], public.y[rows]
            d, e = self._worst(masks, mask, x, y, draws, task)
            leaf = mask.clone().requires_grad_()
            plain = task.loss(masks.answers(leaf, torch.ones_like(leaf), x), y, "mean")
            perturbed = task.loss(masks.answers(leaf + d, 1 + e, x), y, "mean")
            (gradient,) = torch.autograd.grad(self.alpha * plain + (1 - self.alpha) * perturbed, leaf)
            speed = _MOMENTUM * speed + gradient
            mask = (mask - self.lr * speed).clamp(0, 1)
        if not bool(mask.isfinite().all()):
            raise Failed(f"{self.kind()}: the masks diverged", remedy=f"lower {self.kind()}.lr or radius")
        return mask

    def _worst(
        self, masks: NeuronMasks, mask: Tensor, x: Tensor, y: Tensor, draws: torch.Generator, task: Task
    ) -> tuple[Tensor, Tensor]:
        """What is added to masks and shifts, each ``(n,)`` within the radius: one step from a random start."""
        start = [(2 * torch.rand(len(mask), generator=draws) - 1) * self.radius for _ in range(2)]
        d, e = (t.requires_grad_() for t in start)
        loss = task.loss(masks.answers(mask + d, 1 + e, x), y, "mean")
        slopes = torch.autograd.grad(loss, (d, e), allow_unused=True, materialize_grads=True)
        moved = [
            (t.detach() + self.radius * slope.sign()).clamp(-self.radius, self.radius)
            for t, slope in zip((d, e), slopes, strict=True)
        ]
        return moved[0], moved[1]
