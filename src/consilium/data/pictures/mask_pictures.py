"""Masks in a folder of their own: ``masks/a/01.png`` is that of ``a/01.png``; a grey value is the number of a label.

Masks of 0 and 255 alone are background and foreground.  They are resized by the nearest pixel, so no value is made up.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.errors import ConsiliumError, Refused

__all__ = ["mask_files", "read_masks"]

_MODES = ("1", "L", "P")
"""Black and white, grey, and numbers of a palette's colours: each pixel is a number."""
_MOST = 64
"""Labels; more different values are a picture and no mask."""


def mask_files(folder: Path, pictures: Sequence[str]) -> list[Path]:
    """The mask of each picture, by its path below the folder without ending.

    Raises Refused: a picture without a mask.
    """
    files = [folder / PurePosixPath(picture).with_suffix(".png") for picture in pictures]
    lost = [file for file in files if not file.is_file()]
    if lost:
        reason = f"{len(lost)} of {len(files)} pictures have no mask, such as {lost[0].relative_to(folder)} in {folder}"
        raise Refused(reason, remedy="store one .png for each picture, under the picture's path", where="masks")
    return files


def read_masks(files: Sequence[Path], size: int, labels: int, max_pixels: int) -> Tensor:
    """int64 ``(n, size, size)`` of masks with ``labels`` labels, or with any number where that is 0.

    Raises Refused: a file that is no mask, or a value of no label, by the file's name.
    """
    whole = np.stack([_read(file, size, max_pixels) for file in files])
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


def _read(file: Path, size: int, max_pixels: int) -> npt.NDArray[Any]:
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"):
            with Image.open(file, formats=("PNG",)) as picture:
                if picture.mode not in _MODES or getattr(picture, "n_frames", 1) > 1:
                    reason = f"{file} is of mode {picture.mode}, and a mask has one number of 8 bits a pixel"
                    raise Refused(reason, remedy="store it as grey or as a palette, one frame", where="masks")
                if picture.width * picture.height > max_pixels:
                    raise Refused(f"{file} has more than max-pixels = {max_pixels}", where="max-pixels")
                picture.verify()
            with Image.open(file, formats=("PNG",)) as picture:
                numbers = picture.convert("L") if picture.mode == "1" else picture
                return np.asarray(numbers.resize((size, size), Image.Resampling.NEAREST))
    except ConsiliumError:
        raise
    except Exception as error:  # decoders raise many types on untrusted bytes
        reason = f"{file} cannot be read as a mask: {error}"
        raise Refused(reason, remedy="repair or remove it", where="masks") from error
