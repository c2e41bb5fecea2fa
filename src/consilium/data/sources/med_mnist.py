"""The 2-D MedMNIST sets behind one entry: ``name`` selects one.

ChestMNIST is not among them: it is multi-label, and everything here gives a record one label.
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.catalogue import nearest
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.data.dataset import Dataset
from consilium.data.source import Source

from ._medmnist import open_medmnist
from ._medmnist_facts import FACTS

__all__ = ["MedMNIST"]


@dataclass(frozen=True)
class MedMNIST(Source):
    """A 2-D MedMNIST set by ``name``: pathmnist, dermamnist, octmnist, pneumoniamnist, retinamnist, breastmnist, ...

    ``path`` names the npz; without it CONSILIUM_DATA and ~/.medmnist are looked into, and else it is fetched.
    ``max_bytes`` bounds what the arrays take in memory as float32.

    Source: Yang et al. 2023, MedMNIST v2, Scientific Data 10:41
    """

    name: str
    """The data set's name as MedMNIST has it, such as bloodmnist."""
    path: str | None = None
    """The npz file; left out: looked for in CONSILIUM_DATA and ~/.medmnist, else fetched."""
    size: int = 28
    """Height and width of the pictures, in pixels; the data set is published in these sizes."""
    max_bytes: int = 4_000_000_000
    """Most bytes of memory that the arrays may take as float32; more is refused."""

    def __post_init__(self) -> None:
        if self.name == "chestmnist":
            raise Refused(
                "chestmnist is multi-label: its records bear up to 14 labels each",
                remedy="choose a set with one label a record: " + ", ".join(FACTS),
                where="name",
            )
        if self.name.endswith("3d"):
            raise Refused(
                f"{self.name} holds volumes, and this version reads pictures",
                remedy="choose a 2-D set: " + ", ".join(FACTS),
                where="name",
            )
        if self.name not in FACTS:
            raise Refused(f"unknown MedMNIST set {self.name!r}", remedy=nearest(self.name, list(FACTS)), where="name")
        check(self.size in (28, 64, 128, 224), "size", self.size, "28, 64, 128 or 224")
        check(self.max_bytes > 0, "max-bytes", self.max_bytes, "a number of bytes above 0")

    def load(self) -> Dataset:
        """Inputs ``(n, 1 or 3, size, size)``; the published split."""
        return open_medmnist(self.name, self.name, self.size, self.path, self.max_bytes)
