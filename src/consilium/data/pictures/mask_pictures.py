"""Masks in a folder of their own: ``masks/a/01.png`` is that of ``a/01.png``; a grey value is the number of a label.

Masks of 0 and 255 alone are background and foreground.  They are turned by their own EXIF, as pictures are, must have
the proportions of the upright picture, and are resized by the nearest pixel, so no value is made up.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.errors import ConsiliumError, Refused
from consilium.core.records import Omission
from consilium.data.checks.omissions import first
from consilium.data.pictures.picture import STEPS, raw_mode, whole_files
from consilium.data.pictures.picture_tree import FORMATS
from consilium.data.pictures.whole_pictures import check_all_pixels

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["idle_masks", "mask_files", "read_masks"]

_MODES = ("1", "L", "P")
"""Black and white, grey, and numbers of a palette's colours: each pixel is a number."""
_ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is turned: 1 to 8, and from 5 on height and width change places."""
_MOST = 64
"""Labels; more different values are a picture and no mask."""


def mask_files(folder: Path, pictures: Sequence[str]) -> list[Path]:
    """The mask of each picture, by its path below the folder without ending.

    Raises Refused: a picture without a mask, or two pictures of one mask.
    """
    files = [folder / PurePosixPath(picture).with_suffix(".png") for picture in pictures]
    pictured: dict[Path, str] = {}
    for file, picture in zip(files, pictures, strict=True):
        other = pictured.setdefault(file, picture)
        if other != picture:
            reason = f"{other} and {picture} have one mask, {file.relative_to(folder)} in {folder}"
            raise Refused(reason, remedy="rename one of the pictures, and store a mask for each", where="masks")
    lost = [file for file in files if not file.is_file()]
    if lost:
        reason = f"{len(lost)} of {len(files)} pictures have no mask, such as {lost[0].relative_to(folder)} in {folder}"
        raise Refused(reason, remedy="store one .png for each picture, under the picture's path", where="masks")
    return files


def idle_masks(folder: Path, files: Sequence[Path]) -> tuple[Omission, ...]:
    """Masks below ``folder`` that are none of ``files``, those that are read, counted."""
    read = set(files)
    below = (file for file in sorted(folder.rglob("*.png")) if file not in read)
    names = [file.relative_to(folder).as_posix() for file in below]
    shown = [name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts)]
    return (Omission("masks without a picture that is read", len(shown), "", first(shown)),) if shown else ()


def read_masks(files: Sequence[Path], pictures: Sequence[Path], size: int, labels: int, max_pixels: int) -> Tensor:
    """int64 ``(n, size, size)`` of masks with ``labels`` labels, or with any number where that is 0.

    ``pictures (n,)`` are the files that they are masks of.

    Raises Refused: a file that is no mask, of other proportions than its picture, or a value of no label, by its name.
    """
    whole = np.stack([_read(file, picture, size, max_pixels) for file, picture in zip(files, pictures, strict=True)])
    values = np.unique(whole)
    if set(values.tolist()) <= {0, 255}:
        whole, values = whole // 255, values // 255
    most = (labels or _MOST) - 1
    if int(values.max()) > most:
        at = int(np.argmax((whole > most).reshape(len(files), -1).any(axis=1)))
        value = int(whole[at][whole[at] > most][0])
        raise Refused(
            f"{files[at]} holds the value {value}, and labels are 0 to {most}",
            remedy="store the number of a label in each pixel (or 0 and 255 alone) as PNG, and name all in classes",
            where="masks",
        )
    return torch.from_numpy(whole.astype(np.int64))


def _read(file: Path, picture_file: Path, size: int, max_pixels: int) -> npt.NDArray[Any]:
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(action="ignore"), whole_files():
            with Image.open(file, formats=("PNG",)) as picture:
                if picture.mode not in _MODES or getattr(picture, "n_frames", 1) > 1:
                    reason = f"{file} is of mode {picture.mode}, and a mask has one number of 8 bits a pixel"
                    raise Refused(reason, remedy="store it as grey or as a palette, one frame", where="masks")
                if picture.width * picture.height > max_pixels:
                    raise Refused(f"{file} has more than max-pixels = {max_pixels}", where="max-pixels")
                picture.verify()
            with Image.open(file, formats=("PNG",)) as picture:
                raw = raw_mode(picture)
                _check_shape(picture, file, picture_file)
                check_all_pixels(picture, file)
                _check_depth(picture, raw, file)
                upright = ImageOps.exif_transpose(picture)
                numbers = upright.convert("L") if upright.mode == "1" else upright
                return np.asarray(numbers.resize((size, size), Image.Resampling.NEAREST))
    except ConsiliumError:
        raise
    except Exception as error:  # decoders raise many types on untrusted bytes
        reason = f"{file} cannot be read as a mask: {error}"
        raise Refused(reason, remedy="repair or remove it", where="masks") from error


def _check_depth(picture: Picture, raw: str, file: Path) -> None:
    """Refuse grey of 2 or 4 bits that holds more than black and white: widened to 8 bits, 1 would be 85 or 17."""
    if raw in STEPS and not set(np.unique(np.asarray(picture)).tolist()) <= {0, 255}:
        raise Refused(
            f"{file} is grey of {raw[-1]} bits, and a decoder widens its numbers to 8: 1 becomes {STEPS[raw]}",
            remedy="store it as grey of 8 bits or as a palette, so that its numbers are those of the labels",
            where="masks",
        )


def _check_shape(mask: Picture, file: Path, picture_file: Path) -> None:
    """Refuse a mask without its picture's proportions, or of a picture that EXIF turns, where it may be either way.

    The mask of such a picture may be drawn on the stored pixels or on the upright ones.  The shape tells these apart
    where height and width change places and differ; else only an orientation of its own does.
    """
    from PIL import Image

    with Image.open(picture_file, formats=FORMATS) as picture:
        stored, upright, rotation = picture.size, _upright(picture), _turn(picture)
    size = _upright(mask)
    if _fits(size, upright) and (rotation == 1 or _turn(mask) == rotation or not _fits(size, stored)):
        return
    shape, wanted = f"{size[0]} x {size[1]}", f"{upright[0]} x {upright[1]}"
    reason = f"{file} has {shape} pixels, and its picture {picture_file.name} has {wanted}"
    remedy = "store the mask in its picture's proportions"
    if rotation != 1:
        reason += f" and is turned by its EXIF (orientation {rotation}), which the mask does not have"
        remedy = "store the picture upright, without the orientation in its EXIF, and its mask like it"
    raise Refused(reason, remedy=remedy, where="masks")


def _fits(mask: tuple[int, int], picture: tuple[int, int]) -> bool:
    """Whether one is the other made smaller or larger as a whole, to a pixel."""
    (width, height), (wide, high) = sorted((mask, picture))
    return abs(width * high / wide - height) <= 1


def _turn(picture: Picture) -> int:
    turn = picture.getexif().get(_ORIENTATION, 1)
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _upright(picture: Picture) -> tuple[int, int]:
    """Width and height after the turn that EXIF asks for."""
    width, height = picture.size
    return (height, width) if _turn(picture) >= 5 else (width, height)
