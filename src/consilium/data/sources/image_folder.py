"""A folder of pictures: ``path/<class>/*.png``, or ``path/{train,val,test}/<class>/*.png`` with its own split.

Every picture is made grey or colour and resized as a whole to size x size pixels (bilinear, proportions not kept).
A picture's size is read from its header and refused before it is unpacked, where it is too large.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import ConsiliumError, MissingExtra, Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.data.arrays import inputs, numbered
from consilium.data.dataset import TEST, TRAIN, VALIDATION, Dataset
from consilium.data.meaning import BYTES
from consilium.data.origin import given_folder, stated
from consilium.data.source import Source

__all__ = ["ImageFolder"]

_SPLIT_FOLDERS = {"train": TRAIN, "val": VALIDATION, "validation": VALIDATION, "test": TEST}
_ENDINGS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ImageFolder(Source):
    """Your own pictures: path/<class>/*.png or *.jpg, or path/{train,val,test}/<class>/...; needs the extra ``images``.

    ``size`` and ``channels`` (1 grey, 3 colour) are what every picture is made into.  ``units`` is a regular expression
    with one group that finds the patient in a file's name.  Pictures of more than ``max_pixels``, or more than
    ``max_bytes`` in all, are refused.

    Source: the folder layout of torchvision's ImageFolder
    """

    path: str
    size: int = 28
    channels: int = 1
    units: str | None = None
    max_pixels: int = 50_000_000
    max_bytes: int = 4_000_000_000

    def __post_init__(self) -> None:
        check(1 <= self.size <= 4096, "size", self.size, "1 to 4096 pixels")
        check(self.channels in (1, 3), "channels", self.channels, "1 (grey) or 3 (colour)")
        check(self.max_pixels > 0, "max-pixels", self.max_pixels, "a number above 0")
        check(self.max_bytes > 0, "max-bytes", self.max_bytes, "a number above 0")
        check(
            self.units is None or _groups(self.units) == 1, "units", self.units, "a regular expression with one group"
        )

    def load(self) -> Dataset:
        """Inputs ``(n, channels, size, size)``, files in alphabetical order."""
        root = given_folder(self.path)
        try:
            found = list(_pictures(root))
        except OSError as error:
            raise Refused(f"{error.filename} cannot be looked into: {error.strerror}", where="path") from error
        classes = tuple(sorted({label for _, label, _ in found}))
        self._check_found(root, len(found), classes)
        pixels = np.stack([self._pixels(file) for file, _, _ in found])
        y = torch.tensor([classes.index(label) for _, label, _ in found])
        given = found[0][2] is not None
        return Dataset(
            name=self.kind(),
            records=Records.of(inputs(pixels, str(root)), y, self._units(found)),
            split=torch.tensor([split for _, _, split in found], dtype=torch.int8) if given else None,
            keys=None,
            classes=classes,
            provenance=stated([file for file, _, _ in found], root),
            bundled=False,
            notes=(f"every picture was resized as a whole to {self.size} x {self.size} pixels",),
            inputs=Inputs(preparation=self._preparation(), patients=self.units is not None),
        )

    def _preparation(self) -> tuple[tuple[str, str], ...]:
        colour = "grey, ITU-R 601-2" if self.channels == 1 else "RGB"
        return ("colour", colour), ("resampling", "bilinear, as a whole, upright by EXIF"), ("values", BYTES)

    def _check_found(self, root: Path, n: int, classes: tuple[str, ...]) -> None:
        if len(classes) < 2:
            raise Refused(
                f"{root} has pictures of {len(classes)} classes",
                remedy="put .png or .jpg files into one folder for each class, two classes or more",
                where="path",
            )
        need = n * self.channels * self.size**2 * 4
        if need > self.max_bytes:
            raise Refused(
                f"{n} pictures take {need / 1e9:.1f} GB, more than max-bytes = {self.max_bytes / 1e9:.1f} GB",
                remedy="choose a smaller size, or raise max-bytes if this machine can hold it",
                where="max-bytes",
            )

    def _pixels(self, file: Path) -> npt.NDArray[Any]:
        """uint8 ``(size, size)`` or ``(size, size, 3)``."""
        try:
            from PIL import Image, ImageOps
        except ImportError as error:
            raise MissingExtra("image-folder needs Pillow", remedy="pip install consilium[images]") from error
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(file) as picture:
                self._check_picture(picture.size, picture.mode, file)
                upright = ImageOps.exif_transpose(picture).convert("L" if self.channels == 1 else "RGB")
                return np.asarray(upright.resize((self.size, self.size), Image.Resampling.BILINEAR))
        except ConsiliumError:
            raise
        except Exception as error:  # whatever a decoder makes of bytes that nobody vouches for
            raise Refused(f"{file} cannot be read as a picture: {error}", remedy="repair or remove it") from error

    def _check_picture(self, size: tuple[int, int], mode: str, file: Path) -> None:
        if size[0] * size[1] > self.max_pixels:
            raise Refused(
                f"{file} has {size[0]} x {size[1]} pixels, more than max-pixels = {self.max_pixels}",
                remedy="make it smaller, or raise max-pixels if you trust the file",
                where="max-pixels",
            )
        if mode.startswith(("I", "F")):
            raise Refused(
                f"{file} has more than 8 bits a pixel (mode {mode})",
                remedy="convert it to 8 bits, or give floats in [0, 1] through npz",
            )

    def _units(self, found: list[tuple[Path, str, int | None]]) -> Tensor | None:
        if self.units is None:
            return None
        matches = [re.search(self.units, file.name) for file, _, _ in found]
        for match, (file, _, _) in zip(matches, found, strict=True):
            if match is None or match[1] is None:
                raise Refused(f"units = {self.units!r} finds nothing in {file.name}", where="units")
        names = np.array([match[1] for match in matches if match])
        return numbered(names, len(found), "units")[0]


def _pictures(root: Path) -> Iterator[tuple[Path, str, int | None]]:
    """Each picture with its class and split, in alphabetical order."""
    parts = [folder for folder in _folders(root) if folder.name in _SPLIT_FOLDERS]
    split = any(folder.name == "train" for folder in parts)
    for part in parts if split else [root]:
        for label in _folders(part):
            for file in sorted(label.iterdir()):
                if file.suffix.lower() in _ENDINGS and file.is_file() and not file.name.startswith("."):
                    yield file, label.name, _SPLIT_FOLDERS[part.name] if split else None


def _folders(root: Path) -> list[Path]:
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error:
        return -1
