"""One picture file as pixels: as it is meant, or refused by its name.

What has no one meaning as 8 bits of grey or RGB is refused, for a decoder would cut or drop it in silence: deeper
values, pixels that are not opaque, further frames, printing inks, and bytes that fail their check sum or end early.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from consilium.core.errors import ConsiliumError, MissingExtra, Refused
from consilium.data.pictures.picture_tree import FORMATS
from consilium.data.pictures.whole_pictures import check_all_pixels

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

__all__ = ["STEPS", "raw_mode", "read_picture", "whole_files"]

STEPS = {"L;2": 85, "L;4": 17}
"""Grey of 2 and 4 bits, as Pillow names it, and the factor that makes it 8 bits."""


def read_picture(file: Path, size: int, channels: int, max_pixels: int) -> npt.NDArray[Any]:
    """uint8 ``(size, size)`` grey or ``(size, size, 3)`` RGB, by ``channels``; refused, naming the file.

    Raises Refused: the file is no readable picture.  Raises MissingExtra: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise MissingExtra("image-folder needs Pillow", remedy="pip install consilium[images]") from error
    try:
        with warnings.catch_warnings(action="ignore"), whole_files():
            with Image.open(file, formats=FORMATS) as picture:
                _check_size(picture, max_pixels, file)
                picture.verify()  # PNG: the check sum of every chunk, which decoding skips; it leaves the file unusable
            with Image.open(file, formats=FORMATS) as picture:
                _check_meaning(picture, file)
                check_all_pixels(picture, file)
                upright = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
                return np.asarray(upright.resize((size, size), Image.Resampling.BILINEAR))
    except ConsiliumError:
        raise
    except Exception as error:  # decoders raise many types on untrusted bytes
        raise Refused(f"{file} cannot be read as a picture: {error}", remedy="repair or remove it") from error


@contextmanager
def whole_files() -> Iterator[None]:
    """A file that ends early is an error, whatever another package has set in Pillow."""
    from PIL import ImageFile

    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _check_size(picture: ImageFile, max_pixels: int, file: Path) -> None:
    if picture.width * picture.height > max_pixels:
        raise Refused(
            f"{file} has {picture.width} x {picture.height} pixels, more than max-pixels = {max_pixels}",
            remedy="make it smaller, or raise max-pixels if you trust the file",
            where="max-pixels",
        )


def _check_meaning(picture: ImageFile, file: Path) -> None:
    """Refuse what Pillow would read as 8 bits of one frame and one colour space by leaving something out."""
    raw, mode = raw_mode(picture), picture.mode
    if mode.startswith(("I", "F")) or ";16" in raw:
        raise Refused(
            f"{file} has more than 8 bits a pixel (mode {mode if mode[0] in 'IF' else raw})",
            remedy="convert it to 8 bits, or give floats in [0, 1] through npz",
        )
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise Refused(f"{file} holds {frames} frames", remedy="store each frame as a picture of its own")
    if mode == "CMYK":  # without a profile inks have no colours, and which value means full ink is a guess
        raise Refused(f"{file} holds printing inks (CMYK)", remedy="convert it to RGB by its colour profile")
    if picture.has_transparency_data and _least_opaque(picture, raw) < 255:
        raise Refused(
            f"{file} has transparent pixels, and the colour behind them is unknown",
            remedy="flatten it onto a background first",
        )


def raw_mode(picture: ImageFile) -> str:
    """How the file packs a pixel (``RGB;16B``): the mode does not show it for 16-bit colour."""
    packed = picture.tile[0].args if picture.tile else ""
    return packed if isinstance(packed, str) else str((packed or ("",))[0])


def _least_opaque(picture: ImageFile, raw: str) -> float:
    """The least alpha of any pixel, 255 where all are opaque."""
    key = picture.info.get("transparency")
    if isinstance(key, int) and raw in STEPS:  # Pillow widens the pixels of 2 and 4 bits to 8 and not this grey value
        picture.info["transparency"] = key * STEPS[raw]
    low, _ = picture.convert("RGBA").getchannel("A").getextrema()
    return low if isinstance(low, int | float) else min(low)  # of one band these are numbers
