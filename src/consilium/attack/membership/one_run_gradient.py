"""The one-run audit's white-box adversary: a canary in the training set moved the weights along its own gradient.

    score(x, y) = <theta_0 - theta_T, g / ||g||>,   g = grad loss(theta_0; x, y) - its mean over canaries of that class

It has the model before training as well as the released one, as the server and every site do.  The mean is taken
off because all records of a class pull that way, canary or not; where there are no classes it is that of all canaries.

Source: Nasr et al. 2023, Tight Auditing of Differentially Private Machine Learning, arXiv 2302.07956; Andrew et al.
2023, One-shot Empirical Privacy Estimation for Federated Learning, arXiv 2302.03098 (one run, all canaries at once)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from consilium.core.attack import Attack
from consilium.core.errors import Refused
from consilium.core.finding import Finding
from consilium.core.records import Records
from consilium.core.task import Task
from consilium.core.threat import CanaryView, ThreatModel
from consilium.core.update import Payload

__all__ = ["OneRunGradient"]

_NUMBERS = 8_000_000
"""Numbers of per-example gradients held at once."""


@dataclass(frozen=True)
class OneRunGradient(Attack[CanaryView]):
    """Guesses which canaries were trained on, from how far the weights moved along each one's gradient."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "inference", "white-box", "membership")
    needs: ClassVar[type[CanaryView]] = CanaryView

    def run(self, view: CanaryView, memory: Payload, generator: torch.Generator) -> Finding:
        """``score`` (m,), the higher the likelier in; the figures are the scorer's."""
        start, end = _ends(view)
        moved = _moved(start, end)
        records = view.canaries
        strata, task = view.task.strata(records.y) if view.task.exclusive else torch.zeros(len(records)), view.task
        centres = {label: _mean(start, records.select(strata == label), task) for label in set(strata.tolist())}
        places = dict(zip(records.ids.tolist(), strata.tolist(), strict=True))
        scores = [
            _aligned(g, [places[i] for i in part.ids.tolist()], centres, moved)
            for part, g in _gradients(start, records, task)
        ]
        return Finding((), {"score": torch.cat(scores)})


def _ends(view: CanaryView) -> tuple[nn.Module, nn.Module]:
    """The model before training and after it."""
    if view.start is None or view.module is None:
        raise Refused(
            "a defence of this model supplies no weights that can be set beside those before training",
            remedy="audit it with one-run-audit, which needs its answers only",
        )
    return view.start, view.module


def _moved(start: nn.Module, end: nn.Module) -> Tensor:
    """theta_0 - theta_T ``(d,)``."""
    before, after = dict(start.named_parameters()), dict(end.named_parameters())
    if before.keys() != after.keys() or any(before[name].shape != after[name].shape for name in before):
        raise Refused("the released model has other weights than the one before training", remedy="use one-run-audit")
    return torch.cat([(before[name] - after[name]).detach().flatten() for name in before]).double()


def _gradients(start: nn.Module, records: Records, task: Task) -> list[tuple[Records, Tensor]]:
    """Per-example gradients ``(n, d)`` at the start, part by part."""
    parameters = {name: p.detach() for name, p in start.named_parameters()}
    fixed = {name: b.detach() for name, b in start.named_buffers()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.losses(functional_call(start, {**weights, **fixed}, (x[None],)), y[None])[0]

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    size = max(1, _NUMBERS // max(1, sum(p.numel() for p in parameters.values())))
    chunks = []
    for first in range(0, len(records), size):
        part = records.select(torch.arange(first, min(first + size, len(records))))
        named = each(parameters, part.x, part.y)
        chunks.append((part, torch.cat([named[name].flatten(1) for name in parameters], 1).double()))
    return chunks


def _mean(start: nn.Module, records: Records, task: Task) -> Tensor:
    zero = torch.zeros((), dtype=torch.float64)
    return sum((g.sum(0) for _, g in _gradients(start, records, task)), start=zero) / len(records)


def _aligned(g: Tensor, strata: list[int], centres: dict[int, Tensor], moved: Tensor) -> Tensor:
    centred = g - torch.stack([centres[label] for label in strata])
    aligned: Tensor = centred @ moved / centred.norm(dim=1).clamp_min(1e-12)
    return aligned.cpu()
