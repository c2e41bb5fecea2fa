"""Defense-GAN: the model sees the nearest input that a generator of public records makes, and what is far is rejected.

    answer(x) = f(G(z*))        z* = argmin over starts and gradient steps of |G(z) - x|^2
    suspicion(x) = |G(z*) - x|^2 / d

Both are attacked: the projection straight through (BPDA), the distance by its exact gradient 2 (x - G(z*)) / d.  The
starts are the same for every record, so an answer is the same whenever it is asked for.  It costs starts times steps
passes of the generator for each answer, and clean accuracy where few public records make a poor generator.

Source: Samangouei et al. 2018, Defense-GAN, arXiv 1805.06605; Athalye et al. 2018, arXiv 1802.00420 (its weakness)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.core.detection import Detecting
from consilium.core.entry import check
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._fitted import FittedDetector
from ._generator import projected, trained_generator

__all__ = ["DefenseGAN"]

_PARTS = tuple(f"{kind}_{layer}" for layer in range(3) for kind in ("weight", "bias"))


@dataclass(frozen=True)
class DefenseGAN(FittedDetector):
    """Projects an input on the range of a generator trained on public records, and rejects what is far from it."""

    latent: int = 16
    """Numbers that the generator makes an input of."""
    hidden: int = 128
    """Width of the two hidden layers of generator and critic."""
    batches: int = 500
    """Batches of 64 public records that the generator is trained on; the critic sees three times as many."""
    steps: int = 30
    """Gradient steps of a projection."""
    starts: int = 4
    """Starts of a projection, of which the nearest result is taken."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for knob in ("latent", "hidden", "batches", "steps", "starts"):
            check(getattr(self, knob) >= 1, knob, getattr(self, knob), "at least 1")

    def fit(self, model: nn.Module, records: Records, stream: Stream, task: Task) -> dict[str, Tensor]:
        """The generator's weights, and the starts."""
        parts = trained_generator(records.x.flatten(1), self.latent, self.hidden, self.batches, stream)
        starts = torch.randn(self.starts, self.latent, generator=stream.child("starts").generator())
        return {**dict(zip(_PARTS, parts, strict=True)), "starts": starts}

    def detecting(self, model: nn.Module, fitted: Mapping[str, Tensor]) -> Detecting:
        """``model`` behind the projection."""
        return _Projected(model, fitted, self.steps)


class _Projected(Detecting):
    def __init__(self, model: nn.Module, fitted: Mapping[str, Tensor], steps: int) -> None:
        super().__init__(model, fitted)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.answered(x)[0] if self.names else self.model(x)
        return logits

    def suspicion(self, x: Tensor) -> Tensor:
        return _far(x, self.nearest(x))

    def answered(self, x: Tensor) -> tuple[Tensor, Tensor]:
        nearest = self.nearest(x)
        return self.model(x + (nearest - x).detach()), _far(x, nearest)

    def nearest(self, x: Tensor) -> Tensor:
        """The projections, without a gradient."""
        parts = [self.get_buffer(name) for name in _PARTS]
        return projected(x.flatten(1), parts, self.get_buffer("starts"), self.steps).view_as(x)


def _far(x: Tensor, nearest: Tensor) -> Tensor:
    return (x - nearest).square().flatten(1).mean(1)
