"""Pictures that show several findings each, generated: for the task of several labels where no data can be shared.

    picture = waves + noise + what each of its findings draws        findings of a patient's pictures mostly agree

Nothing in them is anyone's, and whoever has the same version draws the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable
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

from ._scenes import background, draws, grid, shades, spots

__all__ = ["GeneratedFindings"]

_Draw = Callable[[int, int, torch.Generator], Tensor]
_PERSISTS = 0.9
"""How often a picture shows what was drawn for its patient, and not what was drawn for it alone."""


@dataclass(frozen=True)
class GeneratedFindings(Source):
    """Generated grey pictures with five findings, each present or absent: nodule, mass, effusion, line and ring.

    ``patients`` have ``pictures`` each, of ``size`` x ``size`` pixels; a patient's pictures share their background and
    most findings.  ``noise`` is the standard deviation of a pixel.  ``seed`` numbers the collection.

    Source: none; made for this study's checks
    """

    patients: int = 400
    """Number of patients."""
    pictures: int = 3
    """Number of pictures of each patient."""
    size: int = 16
    """Height and width of a picture, in pixels."""
    noise: float = 0.1
    """Standard deviation of a pixel, in units of the grey range."""
    seed: int = 0
    """Number of the collection: another seed draws other patients."""

    def __post_init__(self) -> None:
        check(self.patients > 0, "patients", self.patients, "a number of patients above 0")
        check(self.pictures > 0, "pictures", self.pictures, "a number of pictures above 0")
        check(8 <= self.size <= 256, "size", self.size, "a number of pixels from 8 to 256")
        check(0 <= self.noise <= 1, "noise", self.noise, "a share of the range from 0 to 1")

    def load_for(self, task: Task) -> Dataset:
        """Labels ``(n, 5)`` of 0 and 1.

        Raises Refused: another task than several labels.
        """
        if not task.counted:
            raise Refused(
                f"the source {self.kind()} has several findings for each record, and the task is {task.kind()}",
                remedy='use task = "multi-label"',
                where="task",
            )
        return self.load()

    def load(self) -> Dataset:
        """Inputs ``(patients * pictures, 1, size, size)``; units are patients, and there is no split of its own."""
        generator = torch.Generator().manual_seed(self.seed)
        units = torch.arange(self.patients).repeat_interleave(self.pictures)
        y = self._findings(units, generator)
        pictures = 0.35 + background(self.patients, self.size, generator)[units]
        for k, (_, _, draw) in enumerate(_FINDINGS):
            pictures += y[:, k, None, None] * draw(len(units), self.size, generator)
        pictures += self.noise * torch.randn(pictures.shape, generator=generator, dtype=torch.float64)
        return Dataset(
            name=self.kind(),
            records=Records.of(shades(pictures), y, units),
            split=None,
            keys=None,
            classes=tuple(name for name, _, _ in _FINDINGS),
            provenance=f"generated: {self.patients} patients, {self.pictures} pictures each, seed {self.seed}",
            bundled=True,
            notes=("the pictures are generated: figures say nothing about a disease",),
            unit_names=tuple(f"patient {k}" for k in range(self.patients)),
            inputs=Inputs(preparation=(("values", "shades / 255"),), patients=True),
        )

    def _findings(self, units: Tensor, generator: torch.Generator) -> Tensor:
        """Int64 ``(n, 5)``."""
        rates = torch.tensor([rate for _, rate, _ in _FINDINGS])
        patient = torch.rand(self.patients, len(rates), generator=generator) < rates
        alone = torch.rand(len(units), len(rates), generator=generator) < rates
        persists = torch.rand(alone.shape, generator=generator) < _PERSISTS
        return torch.where(persists, patient[units], alone).long()


def _nodule(count: int, size: int, generator: torch.Generator) -> Tensor:
    row, column = (draws(count, 0.15, 0.85, generator) for _ in range(2))
    return 0.6 * spots(row, column, 0.05, size)


def _mass(count: int, size: int, generator: torch.Generator) -> Tensor:
    row, column = (draws(count, 0.25, 0.75, generator) for _ in range(2))
    return 0.35 * spots(row, column, draws(count, 0.14, 0.2, generator), size)


def _effusion(count: int, size: int, generator: torch.Generator) -> Tensor:
    return 0.3 * (grid(size)[0] > draws(count, 0.7, 0.85, generator)).double()


def _line(count: int, size: int, generator: torch.Generator) -> Tensor:
    row, column = grid(size)
    place = draws(count, 0.1, 0.9, generator) + draws(count, -0.2, 0.2, generator) * row
    return 0.4 * ((column - place).abs() < 0.04).double()


def _ring(count: int, size: int, generator: torch.Generator) -> Tensor:
    row, column = (draws(count, 0.3, 0.7, generator) for _ in range(2))
    rows, columns = grid(size)
    away = ((rows - row).square() + (columns - column).square()).sqrt() - draws(count, 0.2, 0.26, generator)
    return 0.4 * torch.exp(-(away / 0.04).square())


_FINDINGS: tuple[tuple[str, float, _Draw], ...] = (
    ("nodule", 0.35, _nodule),
    ("mass", 0.25, _mass),
    ("effusion", 0.3, _effusion),
    ("line", 0.3, _line),
    ("ring", 0.2, _ring),
)
"""Name, how often a patient has it, and what it adds to a picture."""
