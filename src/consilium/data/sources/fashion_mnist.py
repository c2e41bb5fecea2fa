"""Articles of clothing, 28 x 28 grey: as light as MNIST and harder; on Debian it is a package.

The files are in idx form: two zero bytes, the type (8: uint8), the number of axes, each axis as a big-endian int32, and
the bytes.  Their content is verified by sha256 of the unpacked bytes, since Debian compresses them again.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.plain import Json
from consilium.core.records import Records
from consilium.data.checks.verify import check_labels
from consilium.data.dataset import TEST, TRAIN, Dataset
from consilium.data.files.arrays import inputs, labels
from consilium.data.files.meaning import STORED_BYTES
from consilium.data.files.origin import data_folder, given_folder, stated
from consilium.data.source import Source

__all__ = ["FashionMNIST"]

_DEBIAN = "/usr/share/datasets/fashion-mnist"
_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""The files, with the sha256 of what each holds."""
_MOST = 100_000_000
"""Bytes that a file may unpack to; the largest holds 47 040 016."""


@dataclass(frozen=True)
class FashionMNIST(Source):
    """Articles of clothing (70000 grey images of 28 x 28, 10 classes), from a Debian package or a folder.

    ``path`` names the folder of the four idx files; without it the package's folder and CONSILIUM_DATA/fashion-mnist
    are looked into.  ``classes`` are those of which records are read, by their published numbers (0 to 9), in the order
    in which they are numbered here; all ten where none are named.  ``per_class`` takes the first so many published
    training images of each class (0: all of them), ``test_per_class`` the first so many published test images.

    Source: Xiao, Rasul and Vollgraf 2017, Fashion-MNIST (arXiv 1708.07747), MIT licence
    """

    path: str | None = None
    """Folder of the four idx files; left out: the package's own folder and CONSILIUM_DATA are looked into."""
    classes: tuple[int, ...] = ()
    """Numbers of the classes that are kept, and numbered anew from 0; left out: all ten."""
    per_class: int = 0
    """Images kept of each class, the first ones; 0 is all."""
    test_per_class: int = 0
    """Test images kept of each class, the first ones, the same for everybody; 0 is all 1000."""

    def __post_init__(self) -> None:
        """Check that classes are numbers of Fashion-MNIST, each once, and two of them at least."""
        ok = all(0 <= number < len(_CLASSES) for number in self.classes) and len(set(self.classes)) == len(self.classes)
        check(ok and len(self.classes) != 1, "classes", list(self.classes), "two or more numbers of 0 to 9, each once")
        check(0 <= self.per_class <= 6000, "per_class", self.per_class, "1 to 6000 images, or 0 for all")
        check(0 <= self.test_per_class <= 1000, "test_per_class", self.test_per_class, "1 to 1000, or 0 for all")

    def configuration(self) -> dict[str, Json]:
        """The kind and every knob; of those that choose records the ones that do."""
        choices: dict[str, Json] = {"classes": list(self.classes), "per-class": self.per_class}
        choices |= {"test-per-class": self.test_per_class}
        return {name: value for name, value in super().configuration().items() if choices.get(name, True)}

    def load(self) -> Dataset:
        """Inputs ``(70000, 1, 28, 28)``, fewer of some classes; the published train and test split."""
        folder = self._folder()
        files = {name: _unpacked(folder / name) for name in _FILES}
        official = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == _FILES
        train, test = _part(files, "train", folder), _part(files, "t10k", folder)
        x, y = (torch.cat(pair) for pair in zip(train, test, strict=True))
        split = torch.tensor([TRAIN] * len(train[1]) + [TEST] * len(test[1]), dtype=torch.int8)
        if self.classes:
            x, y, split = _of_classes(x, y, split, self.classes)
        for part, count in ((TRAIN, self.per_class), (TEST, self.test_per_class)):
            if count:
                keep = (split != part) | _first(y, split == part, count)
                x, y, split = x[keep], y[keep], split[keep]
        return Dataset(
            name=self.kind(),
            records=Records.of(x, y),
            split=split,
            keys=None,
            classes=tuple(_CLASSES[number] for number in self.classes) or _CLASSES,
            provenance=stated([folder / name for name in _FILES], folder),
            bundled=official,
            notes=(
                "the published images and labels" if official else "not the published images and labels",
                *([f"classes {', '.join(map(str, self.classes))} of 0 to 9 alone"] if self.classes else []),
                *([f"the first {self.per_class} training images of each class alone"] if self.per_class else []),
                *([f"the first {self.test_per_class} test images of each class alone"] if self.test_per_class else []),
            ),
            inputs=Inputs(preparation=STORED_BYTES),
        )

    def _folder(self) -> Path:
        if self.path is not None:
            return given_folder(self.path)
        root = data_folder()
        for folder in (Path(_DEBIAN), *([root / "fashion-mnist"] if root else [])):
            if all((folder / name).is_file() for name in _FILES):
                return folder
        raise Refused(
            f"Fashion-MNIST is not on this machine (looked in {_DEBIAN} and CONSILIUM_DATA/fashion-mnist)",
            remedy="apt-get install dataset-fashion-mnist, or name the folder of its four .gz files by path",
            where="path",
        )


def _of_classes(x: Tensor, y: Tensor, split: Tensor, classes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """The records of these classes, numbered in their order."""
    number = torch.full((len(_CLASSES),), -1)
    number[list(classes)] = torch.arange(len(classes))
    keep = number[y] >= 0
    return x[keep], number[y[keep]], split[keep]


def _first(y: Tensor, among: Tensor, count: int) -> Tensor:
    """The first ``count`` records of each class of ``among`` those."""
    keep = torch.zeros(len(y), dtype=torch.bool)
    for label in torch.unique(y):
        keep[((y == label) & among).nonzero().flatten()[:count]] = True
    return keep


def _part(files: dict[str, bytes], name: str, folder: Path) -> tuple[Tensor, Tensor]:
    """Images ``(n, 1, h, w)`` and labels ``(n,)`` of train or t10k."""
    images, marks = (folder / f"{name}-{what}-ubyte.gz" for what in ("images-idx3", "labels-idx1"))
    x = inputs(_idx(files[images.name], images), str(images))
    y = labels(_idx(files[marks.name], marks), len(x), str(marks))
    check_labels(y, len(_CLASSES), str(marks))
    return x, y


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Refused(f"{path} cannot be read: {error}", remedy="fetch the four .gz files again") from error
    if len(content) > _MOST:
        raise Refused(f"{path} unpacks to more than {_MOST} bytes", remedy="fetch the four .gz files again")
    return content


def _idx(content: bytes, path: Path) -> npt.NDArray[Any]:
    axes = content[3] if content[:3] == b"\x00\x00\x08" and len(content) > 3 else 0
    start = 4 + 4 * axes
    if axes and len(content) > start:
        shape = struct.unpack(f">{axes}I", content[4:start])
        if math.prod(shape) == len(content) - start:
            return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    raise Refused(f"{path} is not an idx file of bytes", remedy="fetch the four .gz files again")
