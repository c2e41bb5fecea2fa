"""Whether a picture file holds all of its pixels: decoders fill what is missing with black or grey, and say nothing.

PNG     the bytes of all rows, filter bytes among them, must come out of its compressed chunks.  The check sums of a
        file that a program has cut are right.
JPEG    the decoder stops where the entropy-coded data end, and fills with mid-grey.  More bytes are put behind the last
        ones: in a whole picture they are not read, and in a short one they become pixels.  Zeros at the end of a file
        without an end mark are those of a copy that stopped, and go first.

Only pictures that may be short are decoded once more: PNG whose last row is 0 or which are interlaced, JPEG with a
last pixel of mid-grey, without an end mark, or progressive.

Source: W3C, Portable Network Graphics (11.2.4, 8); ITU-T T.81 (B.1.1, F.2.2)
"""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.core.errors import Refused

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

__all__ = ["check_all_pixels"]

_SIGNATURE, _HEADER = 8, 25
"""Bytes of a PNG before its header chunk, and of that chunk."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Numbers in a pixel, by a PNG's type of colour."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps, of each pass of an interlaced PNG."""
_SCAN, _END = 0xDA, 0xD9
_MARK = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker of a JPEG, those within its entropy-coded data aside."""
_FILLER = bytes((37 * place + 11) % 251 for place in range(1 << 12))
"""Bytes of which none begins a marker, and which no run of equal blocks looks like."""
_GREY = range(120, 137)
"""What a decoder fills with, about: 128 in the picture's own colours."""


def check_all_pixels(picture: ImageFile, file: Path) -> None:
    """Refuse a ``picture`` of ``file`` that lacks pixels; it is decoded by that.

    Raises Refused: the file ends early, whatever its check sums and end mark say.
    """
    picture.load()
    short = _short_png(picture, file) if picture.format == "PNG" else _short_jpeg(picture, file)
    if short:
        raise Refused(
            f"{file} ends early: {short}, and a decoder fills in the rest", remedy="fetch it again, or remove it"
        )


def _short_png(picture: ImageFile, file: Path) -> str:
    """What is missing of a PNG; empty where nothing is."""
    stored = file.read_bytes()
    depth, colour, interlaced = stored[_SIGNATURE + 16], stored[_SIGNATURE + 17], stored[_SIGNATURE + 20]
    if not interlaced and _ends(picture.crop((0, picture.height - 1, picture.width, picture.height))) != (0, 0):
        return ""
    bits = depth * _SAMPLES[colour]
    expected = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in _parts(picture.size, interlaced))
    decoder = zlib.decompressobj()
    size = sum(len(decoder.decompress(chunk)) for chunk in _data_chunks(stored))
    return "" if size >= expected else f"{size} of the {expected} bytes of its pixels are there"


def _ends(picture: Picture) -> tuple[float, float]:
    """The least and the greatest number in any band."""
    extrema = picture.getextrema()
    bands = [extrema] if isinstance(extrema[0], int | float) else [*extrema]
    return min(low for low, _ in bands), max(high for _, high in bands)


def _parts(size: tuple[int, int], interlaced: int) -> list[tuple[int, int]]:
    """Columns and rows of each pass that has any."""
    width, height = size
    if not interlaced:
        return [(width, height)]
    parts = [((width - x + wide - 1) // wide, (height - y + high - 1) // high) for x, y, wide, high in _PASSES]
    return [(columns, rows) for columns, rows in parts if columns > 0 and rows > 0]


def _data_chunks(stored: bytes) -> list[bytes]:
    chunks, at = [], _SIGNATURE
    while at + 8 <= len(stored):
        size, kind = int.from_bytes(stored[at : at + 4], "big"), stored[at + 4 : at + 8]
        if kind == b"IDAT":
            chunks.append(stored[at + 8 : at + 8 + size])
        at += 12 + size
    return chunks


def _short_jpeg(picture: ImageFile, file: Path) -> str:
    """Why the data of a JPEG are known to end early; empty where they are not."""
    stored = file.read_bytes()
    scan, end = _last_scan(stored)
    last = picture.getpixel((picture.width - 1, picture.height - 1))
    grey = all(value in _GREY for value in (last if isinstance(last, tuple) else (last,)))
    if end >= 0 and not grey and "progressive" not in picture.info:
        return ""
    data = stored[:end] if end >= 0 else stored.rstrip(b"\0")
    if len(data) <= scan or not _alike(picture, data + _FILLER + bytes((0xFF, _END))):
        return "its data stop before the last pixel"
    return ""


def _last_scan(stored: bytes) -> tuple[int, int]:
    """Where the last scan of the first picture in a JPEG begins, and where its end mark is, or -1."""
    scan, at = 0, 2
    while mark := _MARK.search(stored, at):
        at = mark.start()
        if stored[at + 1] == _END:
            return scan, at
        scan = at if stored[at + 1] == _SCAN else scan
        at += 2 + int.from_bytes(stored[at + 2 : at + 4], "big")
    return scan, -1


def _alike(picture: ImageFile, stored: bytes) -> bool:
    """Whether ``stored`` is decoded to the same pixels as ``picture``."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(stored), formats=("JPEG",)) as other:
            return other.tobytes() == picture.tobytes()
    except (OSError, SyntaxError, ValueError):  # the filler is no code of this picture, and was read as one
        return False
