"""A folder of pictures: ``path/<class>/*.png``, or ``path/{train,val,test}/<class>/*.png`` with its own split.

Every picture is made grey or colour and resized as a whole to size x size pixels (bilinear, proportions not kept).  A
picture's size is read from its header and refused before it is unpacked, where it is too large.  Only the decoders of
PNG and JPEG are ever used, whatever a file's extension; files that are not read are counted.  More than 8 bits,
transparent pixels, several frames and CMYK are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.data.checks.gap_words import unknown_cautions
from consilium.data.checks.scales import check_depth
from consilium.data.dataset import Dataset
from consilium.data.files.arrays import identities, inputs, numbered
from consilium.data.files.meaning import BYTES
from consilium.data.files.origin import given_folder, stated
from consilium.data.source import Source

from ._picture import read_picture
from ._picture_tree import Picture, Tree, read_tree

__all__ = ["ImageFolder"]

_PARTS = r"masks?|seg(?:mentation)?|label(?:s|map)?|gt|annotations?|contour|roi"
_MASK = re.compile(rf"(.+?)[ _.-](?:{_PARTS})(?:[ _.-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFolder(Source):
    """Your own pictures: path/<class>/*.png or *.jpg, or path/{train,val,test}/<class>/...; needs the extra ``images``.

    Every picture is converted to ``size`` and ``channels`` (1 grey, 3 colour).  ``units`` is a regular expression
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
            cautions=(
                *unknown_cautions("class", classes),
                *_masks(pictures),
                *_in_several_classes(y, units, classes),
            ),
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


def _masks(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """A caution about pictures that are called as the mask of another: ``5_mask.png`` beside ``5.png``."""
    stems = {(picture.file.parent, picture.file.stem) for picture in pictures}
    parts = [(picture.file, _MASK.fullmatch(picture.file.stem)) for picture in pictures]
    masks = [file for file, part in parts if part and (file.parent, part[1]) in stems]
    if not masks:
        return ()
    return (
        f"{len(masks)} of {len(pictures)} pictures are called as masks of others beside them, such as "
        f"{masks[0].parent.name}/{masks[0].name}, and are read as pictures of that class: move masks away",
    )


def _in_several_classes(y: Tensor, units: Tensor | None, classes: tuple[str, ...]) -> tuple[str, ...]:
    """A caution about patients in the folders of several classes, as where each folder numbers its own from 1."""
    if units is None:
        return ()
    pairs = torch.unique(torch.stack([units, y]), dim=1)
    patients, counts = torch.unique(pairs[0], return_counts=True)
    several = patients[counts > 1]
    if not len(several):
        return ()
    records = (units == several[0]).nonzero().flatten().tolist()
    other = next(record for record in records if y[record] != y[records[0]])
    one, two = classes[int(y[records[0]])], classes[int(y[other])]
    return (
        f"{len(several)} of {len(patients)} patients have pictures in the folders of several classes, such as that of "
        f"record {records[0]} ({one!r}) and record {other} ({two!r}), and count as one person each; if every folder "
        "numbers its patients anew they are different people: put the class's name before the number",
    )


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error:
        return -1
