"""The smallest pattern that makes a model answer each class, whatever the record: one that is far smaller is a trigger.

    minimise over m, p   L(f((1 - m) x + m p), t) + cost |m|_1       m: one number in [0, 1] per place, p: the pattern
    index_t = |n_t - median| / (1.4826 median |n - median|)          n_t: |m|_1 of the smallest m that succeeds

``cost`` of a class rises while 99 % of a batch are answered as the class, and falls while they are not.  All classes
are searched side by side; none depends on another.  Of a class that is never reached n_t is the number of all places.

Source: Wang et al. 2019, Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks, IEEE S&P,
sections IV and V; its code for the schedule of the cost
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.random import Stream
from consilium.core.records import Records

from ._fine_tuning import public_batches

__all__ = ["Inversion", "anomaly_indices", "invert"]

_BATCH, _ROWS = 32, 1024
_RATE, _MEAN, _SQUARE = 0.1, 0.5, 0.9
"""Of Adam, written out here: torch's own imports a compiler."""
_COST, _UP, _DOWN, _PATIENCE = 1e-3, 1.5, 1.5**1.5, 5
_SUCCESS = 0.99


@dataclass(frozen=True, eq=False)
class Inversion:
    """Of each class ``masks (classes, 1, h, w)`` or ``(classes, d)``, ``patterns (classes, *shape)``, ``norms``.

    ``norms (classes,)`` are the sums of the masks.  ``reached``, bool ``(classes,)``: whether some mask made 99 % of a
    batch be answered as the class.
    """

    masks: Tensor
    patterns: Tensor
    norms: Tensor
    reached: Tensor

    def put(self, x: Tensor, target: int) -> Tensor:
        """``x (n, *shape)`` with the trigger of class ``target``."""
        return x + self.masks[target] * (self.patterns[target] - x)


def anomaly_indices(norms: Tensor) -> Tensor:
    """How far each of ``norms (classes,)`` is from their median, in deviations; infinite where these are 0."""
    median = norms.quantile(0.5)
    apart = (norms - median).abs()
    return torch.where(apart > 0, apart / (1.4826 * apart.quantile(0.5)), 0.0)


def invert(module: nn.Module, public: Records, classes: int, steps: int, stream: Stream) -> Inversion:
    """The trigger of each class by ``steps`` steps of Adam, each on 32 of the ``public`` records."""
    group = max(1, _ROWS // _BATCH)
    parts = [
        _Search(module, torch.arange(first, min(first + group, classes)), tuple(public.x.shape[1:]), stream)
        for first in range(0, classes, group)
    ]
    for search in parts:
        for rows in public_batches(len(public), steps, stream, _BATCH):
            search.step(public.x[rows])
    ends = [search.best() for search in parts]
    return Inversion(*(torch.cat(column) for column in zip(*ends, strict=True)))


class _Search:
    """The triggers of some classes at once."""

    def __init__(self, module: nn.Module, targets: Tensor, shape: tuple[int, ...], stream: Stream) -> None:
        self.module, self.targets, self.places = module, targets, shape if len(shape) == 1 else (1, *shape[1:])
        draws = stream.child("trigger").generator()
        start = [torch.rand(1, *size, generator=draws).clamp(0.01, 0.99) for size in (self.places, shape)]
        k = len(targets)
        self.raw = [torch.atanh(2 * t - 1).repeat(k, *[1] * (t.dim() - 1)).requires_grad_() for t in start]
        self.taken, self.means, self.squares = 0, *([torch.zeros_like(t) for t in self.raw] for _ in range(2))
        self.cost, self.good, self.bad = torch.zeros(k), torch.zeros(k), torch.zeros(k)
        mask, pattern = self._trigger()
        self.masks, self.patterns = torch.ones_like(mask), pattern.detach().clone()
        self.norms, self.reached = torch.full((k,), float(math.prod(self.places))), torch.zeros(k, dtype=torch.bool)

    def step(self, x: Tensor) -> None:
        """One step of Adam, after the triggers at hand were judged on ``x (n, *shape)``."""
        mask, pattern = self._trigger()
        shown = x[None] + mask[:, None] * (pattern[:, None] - x[None])
        answers = self.module(shown.flatten(0, 1))
        wanted = self.targets.repeat_interleave(len(x))
        losses = F.cross_entropy(answers, wanted, reduction="none").view(-1, len(x)).mean(1)
        success = (answers.argmax(1) == wanted).view(-1, len(x)).float().mean(1) >= _SUCCESS
        norms = mask.flatten(1).sum(1)
        self._keep(success, norms.detach(), mask.detach(), pattern.detach())
        gradients = torch.autograd.grad((losses + self.cost * norms).sum(), self.raw)
        self._descend(gradients)
        self._price(success)

    def best(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Masks, patterns, norms and whether the class was reached."""
        return self.masks, self.patterns, self.norms, self.reached

    def _trigger(self) -> tuple[Tensor, Tensor]:
        return (torch.tanh(self.raw[0]) + 1) / 2, (torch.tanh(self.raw[1]) + 1) / 2

    def _descend(self, gradients: Sequence[Tensor]) -> None:
        """A step of Adam."""
        self.taken += 1
        pairs = enumerate(zip(self.raw, gradients, strict=True))
        for i, (raw, g) in pairs:
            self.means[i] = _MEAN * self.means[i] + (1 - _MEAN) * g
            self.squares[i] = _SQUARE * self.squares[i] + (1 - _SQUARE) * g.square()
            mean, square = (t / (1 - d**self.taken) for t, d in ((self.means[i], _MEAN), (self.squares[i], _SQUARE)))
            self.raw[i] = (raw.detach() - _RATE * mean / (square.sqrt() + 1e-8)).requires_grad_()

    def _keep(self, success: Tensor, norms: Tensor, mask: Tensor, pattern: Tensor) -> None:
        better = success & (norms < self.norms)
        self.masks[better], self.patterns[better], self.norms[better] = mask[better], pattern[better], norms[better]
        self.reached |= success

    def _price(self, success: Tensor) -> None:
        """The cost of a class goes up after five successes in a row, down after five failures."""
        self.good = torch.where(success, self.good + 1, 0.0)
        self.bad = torch.where(success, 0.0, self.bad + 1)
        up, down = self.good >= _PATIENCE, self.bad >= _PATIENCE
        self.cost = torch.where(up, (self.cost * _UP).clamp_min(_COST), self.cost)
        self.cost = torch.where(down, self.cost / _DOWN, self.cost)
        self.good, self.bad = torch.where(up, 0.0, self.good), torch.where(down, 0.0, self.bad)
