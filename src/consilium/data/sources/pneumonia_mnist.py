"""Chest X-rays of children, normal or pneumonia: the set of the seed paper, and the one that tests run on.

Its test split comes from another distribution than its training split (validation .97, test .86 for the same model), so
it is never used as non-members.
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.entry import check
from consilium.data.dataset import Dataset
from consilium.data.files.archive import MAX_BYTES
from consilium.data.source import Source

from ._medmnist import open_medmnist

__all__ = ["PneumoniaMNIST"]


@dataclass(frozen=True)
class PneumoniaMNIST(Source):
    """Chest X-rays of children, normal / pneumonia (5856 grey images, 2 classes).

    ``path`` names the npz; without it CONSILIUM_DATA and ~/.medmnist are looked into, and else it is fetched.

    Source: Yang et al. 2023, MedMNIST v2, Scientific Data 10:41; Kermany et al. 2018, Cell 172(5)
    """

    path: str | None = None
    """The npz file; left out: looked for in CONSILIUM_DATA and ~/.medmnist, else fetched."""
    size: int = 28
    """Height and width of the pictures, in pixels; the data set is published in these sizes."""

    def __post_init__(self) -> None:
        check(self.size in (28, 64, 128, 224), "size", self.size, "28, 64, 128 or 224")

    def load(self) -> Dataset:
        """Inputs ``(n, 1, size, size)``; the published split."""
        return open_medmnist(self.kind(), "pneumoniamnist", self.size, self.path, MAX_BYTES)
