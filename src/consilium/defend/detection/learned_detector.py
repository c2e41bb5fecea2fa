"""Learned detector: a small network beside the model that tells public records from their adversarial twins.

    suspicion(x) = g(h_1(x), ..., h_L(x))       g: one hidden layer on what the layers read; a logit

The twins are what PGD makes of half of the public records on the model itself.  What it learned holds for attacks like
that one: see what the adaptive attacker leaves of it.

Source: Metzen et al. 2017, On Detecting Adversarial Perturbations, arXiv 1702.04267
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.detection import Detecting
from consilium.core.entry import check
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._fitted import FittedDetector
from ._layers import check_readable, read_by_layers
from ._twins import adversarial_twins

__all__ = ["LearnedDetector"]

_RATE, _DECAY = 1e-2, 1e-2


@dataclass(frozen=True)
class LearnedDetector(FittedDetector):
    """Rejects what a small network on the model's features takes for adversarial."""

    hidden: int = 32
    """Width of its hidden layer."""
    epochs: int = 200
    """Steps of Adam on all that it learns from."""
    radius: float = 0.1
    """How far the twins that it learns from are moved, L-infinity, in units of the range [0, 1]."""
    steps: int = 20
    """Gradient steps that make a twin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.hidden >= 1, "hidden", self.hidden, "at least 1")
        check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        check(0 < self.radius <= 1, "radius", self.radius, "a number above 0, at most 1")
        check(self.steps >= 1, "steps", self.steps, "at least 1")

    def check_model(self, module: nn.Module, example: Tensor) -> None:
        """Refuse a model without float layers."""
        check_readable(self.kind(), module, example)

    def fit(self, model: nn.Module, records: Records, stream: Stream, task: Task) -> dict[str, Tensor]:
        """The weights of both layers; the features are standardised by the first."""
        twins = adversarial_twins(model, records, self.radius, self.steps, stream, task)
        with torch.no_grad():
            h = torch.cat([_features(model, x) for x in (records.x, twins)])
        mean, deviation = h.mean(0), h.std(0, correction=0).clamp_min(1e-6)
        z, y = (h - mean) / deviation, (torch.arange(len(h)) >= len(records)).float()
        first, bias, second, last = self._learned(z, y, stream)
        scaled = first / deviation[:, None]
        return {"first": scaled, "first_bias": bias - mean @ scaled, "second": second, "second_bias": last}

    def _learned(self, z: Tensor, y: Tensor, stream: Stream) -> list[Tensor]:
        generator = stream.child("learned").generator()
        first = torch.randn(z.shape[1], self.hidden, generator=generator) * (2 / z.shape[1]) ** 0.5
        second = torch.randn(self.hidden, generator=generator) * self.hidden**-0.5
        parts = [p.requires_grad_() for p in (first, torch.zeros(self.hidden), second, torch.zeros(()))]
        optimiser = torch.optim.AdamW(parts, _RATE, weight_decay=_DECAY)
        with torch.enable_grad():
            for _ in range(self.epochs):
                optimiser.zero_grad()
                F.binary_cross_entropy_with_logits(_network(z, *parts), y).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return [p.detach() for p in parts]

    def detecting(self, model: nn.Module, fitted: Mapping[str, Tensor]) -> Detecting:
        """``model`` with the network beside it."""
        return _Watched(model, fitted)


class _Watched(Detecting):
    def suspicion(self, x: Tensor) -> Tensor:
        parts = (self.get_buffer(name) for name in ("first", "first_bias", "second", "second_bias"))
        return _network(_features(self.model, x), *parts)


def _features(model: nn.Module, x: Tensor) -> Tensor:
    layers, logits = read_by_layers(model, x)
    return torch.cat([*layers, logits], 1)


def _network(h: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor) -> Tensor:
    return (h @ first + first_bias).relu() @ second + second_bias
