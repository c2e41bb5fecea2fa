"""A folder of pictures: ``path/<class>/*.png``, or ``path/{train,val,test}/<class>/*.png`` with its own split.

Every picture is made grey or colour and resized as a whole to size x size pixels (bilinear, proportions not kept).  A
picture's size is read from its header and refused before it is unpacked, where it is too large.  Only the decoders of
PNG and JPEG are ever used, whatever a file's extension; files that are not read are counted.  More than 8 bits,
transparent pixels, several frames and CMYK are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.data.checks.scales import check_depth
from consilium.data.dataset import Dataset
from consilium.data.files.arrays import identities, inputs, numbered
from consilium.data.files.meaning import BYTES
from consilium.data.files.origin import given_folder, stated
from consilium.data.source import Source

from ._picture import read_picture
from ._picture_tree import Tree, read_tree

__all__ = ["ImageFolder"]


@dataclass(frozen=True)
class ImageFolder(Source):
    """Your own pictures: path/<class>/*.png or *.jpg, or path/{train,val,test}/<class>/...; needs the extra ``images``.

    Every picture is converted to ``size`` and ``channels`` (1 grey, 3 colour).  ``units`` is a regular expression
    with one group that finds the patient in a file's name.  Pictures of more than ``max_pixels``, or more than
    ``max_bytes`` in all, are refused.

    Source: the folder layout of torchvision's ImageFolder
    """

    path: str
    """Folder with one folder of pictures for each class."""
    size: int = 28
    """Height and width that every picture is scaled to, in pixels."""
    channels: int = 1
    """Every picture is converted: 1 is grey, 3 is colour."""
    units: str | None = None
    """Regular expression with one group that finds the patient in a file's name; left out: a file is a patient."""
    max_pixels: int = 50_000_000
    """Larger pictures are refused, before they are decoded."""
    max_bytes: int = 4_000_000_000
    """Most bytes of memory that the arrays may take as float32; more is refused."""

    def __post_init__(self) -> None:
        check(1 <= self.size <= 4096, "size", self.size, "1 to 4096 pixels")
        check(self.channels in (1, 3), "channels", self.channels, "1 (grey) or 3 (colour)")
        check(self.max_pixels > 0, "max-pixels", self.max_pixels, "a number above 0")
        check(self.max_bytes > 0, "max-bytes", self.max_bytes, "a number above 0")
        check(
            self.units is None or _groups(self.units) == 1, "units", self.units, "a regular expression with one group"
        )

    def load(self) -> Dataset:
        """Inputs ``(n, channels, size, size)``, files in alphabetical order.

        Raises Refused: the folder or a picture in it cannot be read.
        """
        root = given_folder(self.path)
        try:
            tree = read_tree(root)
        except OSError as error:
            raise Refused(f"{error.filename} cannot be looked into: {error.strerror}", where="path") from error
        pictures = tree.pictures
        classes = tuple(sorted({picture.label for picture in pictures}))
        self._check_found(root, len(pictures), classes, tree)
        pixels = np.stack(
            [read_picture(picture.file, self.size, self.channels, self.max_pixels) for picture in pictures]
        )
        check_depth([pixels], str(root))
        y = torch.tensor([classes.index(picture.label) for picture in pictures])
        has_splits = pictures[0].split is not None
        units, unit_names = self._units([picture.file for picture in pictures])
        return Dataset(
            name=self.kind(),
            records=Records.of(inputs(pixels, str(root)), y, units),
            split=torch.tensor([picture.split for picture in pictures], dtype=torch.int8) if has_splits else None,
            keys=None,
            classes=classes,
            provenance=stated([picture.file for picture in pictures], root),
            bundled=False,
            notes=(f"every picture was resized as a whole to {self.size} x {self.size} pixels",),
            unit_names=unit_names,
            omitted=tree.omitted,
            inputs=Inputs(preparation=self._preparation(), patients=self.units is not None),
        )

    def _preparation(self) -> tuple[tuple[str, str], ...]:
        colour = "grey, ITU-R 601-2" if self.channels == 1 else "RGB"
        return ("colour", colour), ("resampling", "bilinear, as a whole, upright by EXIF"), ("values", BYTES)

    def _check_found(self, root: Path, n: int, classes: tuple[str, ...], tree: Tree) -> None:
        if len(classes) < 2:
            unread = "".join(f"; not read: {one.line()}" for one in tree.omitted)
            raise Refused(
                f"{root} has pictures of {len(classes)} classes{unread}",
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

    def _units(self, files: list[Path]) -> tuple[Tensor | None, tuple[str, ...]]:
        if self.units is None:
            return None, ()
        matches = [re.search(self.units, file.name) for file in files]
        for match, file in zip(matches, files, strict=True):
            if match is None or not match[1]:
                raise Refused(f"units = {self.units!r} finds nothing in {file.name}", where="units")
        return numbered(identities([match[1] for match in matches if match], "units", [file.name for file in files]))


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error:
        return -1
