"""Common corruptions: how often answers stay right under noise, blur, light and storage, with no adversary.

    accuracy_c = mean over severities 1 to 5 of the accuracy under corruption c;     corrupted_accuracy = mean over c

The non-adversarial column beside the attacks: a model may withstand PGD and fail at a little blur.  What is random
follows from a record's id alone, so that every arm, seed and study is asked about the same pictures.  Intervals are
Wilson's of as many records; a mean over severities varies less, so they are wide rather than narrow.

Source: Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions, arXiv 1903.12261
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.attack import Attack
from consilium.core.errors import Refused
from consilium.core.finding import Finding, Measure
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.random import Stream
from consilium.core.threat import ModelView, ThreatModel
from consilium.core.update import Payload
from consilium.learn.pictures.corruptions import CORRUPTIONS, SEVERITIES, corrupted, jpeg_is_there
from consilium.measure.clustered import effective_share, several
from consilium.measure.intervals import score_interval, wilson

__all__ = ["ImageCorruptions"]

_BATCH = 256


@dataclass(frozen=True)
class ImageCorruptions(Attack[ModelView]):
    """Measures accuracy under ten common corruptions of pictures at five severities; nobody attacks."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "shift")
    needs: ClassVar[type[ModelView]] = ModelView

    only: tuple[str, ...] = ()
    """Names of the corruptions to measure; all of them where none is named."""

    def __post_init__(self) -> None:
        """Check the names.

        Raises Refused: a name that is no corruption, or jpeg where nothing can write it.
        """
        for name in self.only:
            if name not in CORRUPTIONS:
                raise Refused(f"{name!r} is no corruption", remedy=f"use {', '.join(CORRUPTIONS)}", where="only")
        if "jpeg" in self.only and not jpeg_is_there():
            raise Refused("jpeg needs Pillow", remedy="install consilium[images]", where="only")

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens: an id has no brightness."""
        refuse_tokens(inputs, self, "it changes the pixels of a picture")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse what is no picture.

        Raises Refused: inputs that are not channels, height and width.
        """
        if len(shape) != 3:
            raise Refused(f"{self.kind()} has no meaning for inputs of shape {shape}: it changes pictures")

    def run(self, view: ModelView, memory: Payload, generator: torch.Generator) -> Finding:
        """Accuracy under each corruption, at each severity, and over all; score: the share ``right (n,)``.

        Raises Refused: the view has no test records.
        """
        if not len(view.targets):
            raise Refused("there are no test records to corrupt")
        self.check_fit(tuple(view.targets.x.shape[1:]), view.classes)
        names = [name for name in self.only or CORRUPTIONS if name != "jpeg" or jpeg_is_there()]
        right = torch.stack([torch.stack([self._right(view, name, level) for level in SEVERITIES]) for name in names])
        units = view.targets.units
        measures = [_mean("corrupted_accuracy", right.mean((0, 1)), units)]
        measures += [_mean(f"accuracy_{name}", part.mean(0), units) for name, part in zip(names, right, strict=True)]
        measures += [_mean(f"accuracy_severity_{level}", right[:, level - 1].mean(0), units) for level in SEVERITIES]
        missing = not self.only and not jpeg_is_there()
        notes = ("jpeg was left out: Pillow is not installed (consilium[images]).",) if missing else ()
        return Finding(tuple(measures), scores={"right": right.mean((0, 1))}, notes=notes)

    def _right(self, view: ModelView, name: str, severity: int) -> Tensor:
        """1 where the answer under the corruption is right, else 0 ``(n,)``."""
        seeds = Stream(0, (self.kind(), name, severity)).keyed(view.targets.ids)
        parts = []
        for first in range(0, len(view.targets), _BATCH):
            rows = slice(first, first + _BATCH)
            x = corrupted(name, view.targets.x[rows], severity, seeds[rows])
            with torch.no_grad():
                parts.append(view.task.right(view.module(x), view.targets.y[rows]))
        return torch.cat(parts).double()


def _mean(name: str, right: Tensor, units: Tensor) -> Measure:
    """The mean of shares ``(n,)``, which varies no more than a proportion of that mean."""
    n, mean = len(right), float(right.mean())
    of = several(units)
    if of is not None:
        limits = score_interval(*effective_share(right.cpu().numpy(), of))
        return Measure(name, mean, *limits, n=n, unit_count=int(of.max()) + 1)
    low, high = wilson(round(mean * n), n)
    return Measure(name, mean, min(low, mean), max(high, mean), n=n)
