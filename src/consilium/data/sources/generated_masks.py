"""Pictures with the mask of an organ and its lesions, generated: for the task of masks where no data can be shared.

    organ     an ellipse, larger in a patient's middle slices, brighter than what lies around it
    lesions   up to three brighter ellipses within it; a third of the patients have none, so some masks lack the label
    bright spots outside the organ are no lesions

Nothing in them is anyone's, and whoever has the same version draws the same pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.core.task import Task
from consilium.data.dataset import Dataset
from consilium.data.source import Source

from ._scenes import background, draws, ellipses, shades, spots

__all__ = ["GeneratedMasks"]

_LABELS = ("background", "organ", "lesion")
_LESIONS = 3


@dataclass(frozen=True)
class GeneratedMasks(Source):
    """Generated grey slices with masks of an organ and of its lesions.

    ``patients`` have ``slices`` each, of ``size`` x ``size`` pixels; a patient's slices share organ, lesions and
    contrast.  ``noise`` is the standard deviation of a pixel.  ``seed`` numbers the collection.

    Source: none; made for this study's checks
    """

    patients: int = 240
    """Number of patients."""
    slices: int = 3
    """Number of slices of each patient."""
    size: int = 32
    """Height and width of a slice, in pixels."""
    noise: float = 0.08
    """Standard deviation of a pixel, in units of the grey range."""
    seed: int = 0
    """Number of the collection: another seed draws other patients."""

    def __post_init__(self) -> None:
        check(self.patients > 0, "patients", self.patients, "a number of patients above 0")
        check(self.slices > 0, "slices", self.slices, "a number of slices above 0")
        check(16 <= self.size <= 512, "size", self.size, "a number of pixels from 16 to 512")
        check(0 <= self.noise <= 1, "noise", self.noise, "a share of the range from 0 to 1")

    def load_for(self, task: Task) -> Dataset:
        """Labels ``(n, size, size)``: 0 the background, 1 the organ, 2 its lesions.

        Raises Refused: another task than masks.
        """
        if task.kind() != "masks":
            raise Refused(
                f"the source {self.kind()} has a mask for each record, and the task is {task.kind()}",
                remedy='use task = { kind = "masks", threshold = 0.7 }',
                where="task",
            )
        return self.load()

    def load(self) -> Dataset:
        """Inputs ``(patients * slices, 1, size, size)``; units are patients, and there is no split of its own."""
        generator = torch.Generator().manual_seed(self.seed)
        units = torch.arange(self.patients).repeat_interleave(self.slices)
        organ, lesions = self._shapes(units, generator)
        contrast = draws(self.patients, 0.18, 0.3, generator)[units]
        pictures = 0.25 + background(self.patients, self.size, generator)[units] + contrast * organ
        pictures += draws(self.patients, 0.15, 0.3, generator)[units] * lesions
        pictures += 0.4 * self._distractors(units, generator) * ~organ
        pictures += self.noise * torch.randn(pictures.shape, generator=generator, dtype=torch.float64)
        return Dataset(
            name=self.kind(),
            records=Records.of(shades(pictures), organ.long() + lesions.long(), units),
            split=None,
            keys=None,
            classes=_LABELS,
            provenance=f"generated: {self.patients} patients, {self.slices} slices each, seed {self.seed}",
            bundled=True,
            notes=("the pictures are generated: figures say nothing about a disease",),
            unit_names=tuple(f"patient {k}" for k in range(self.patients)),
            inputs=Inputs(preparation=(("values", "shades / 255"),), patients=True),
        )

    def _shapes(self, units: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Organ and lesions, bool ``(n, size, size)`` each; lesions lie within the organ."""

        def of_patients(low: float, high: float) -> Tensor:
            return draws(self.patients, low, high, generator)

        level = torch.arange(self.slices, dtype=torch.float64).repeat(self.patients).view(-1, 1, 1)
        depth = 1 - 0.5 * ((level + 0.5) / self.slices - 0.5).abs() * 2  # how near the middle slice
        row, column = of_patients(0.4, 0.6), of_patients(0.4, 0.6)
        radii, turn = (of_patients(0.2, 0.32), of_patients(0.2, 0.32)), of_patients(0, math.pi)
        organ = ellipses(row[units], column[units], (radii[0][units] * depth, radii[1][units] * depth),
                         turn[units], self.size)  # fmt: skip
        count = (torch.rand(self.patients, generator=generator) * (_LESIONS + 1.5)).long().clamp(max=_LESIONS)
        lesions = torch.zeros_like(organ)
        for k in range(_LESIONS):
            away, angle = of_patients(0, 0.7), of_patients(0, 2 * math.pi)
            down, across = away * angle.cos() * radii[0], away * angle.sin() * radii[1]
            size, long, lean = of_patients(0.05, 0.09), of_patients(1, 1.5), of_patients(0, math.pi)
            shape = ellipses((row + down)[units], (column + across)[units],
                             (size[units] * depth, (size * long)[units] * depth), lean[units], self.size)  # fmt: skip
            lesions |= shape & (count > k)[units, None, None]
        return organ, lesions & organ

    def _distractors(self, units: Tensor, generator: torch.Generator) -> Tensor:
        row, column = (draws(self.patients, 0.05, 0.95, generator)[units] for _ in range(2))
        return spots(row, column, 0.05, self.size)
