"""Arrays to PNG data URIs, with zlib alone: no imaging library is needed to look at an adversarial image.

A PNG is a signature and three chunks here: IHDR (size, 8 bits, colour type 0 grey or 2 RGB), IDAT (zlib over rows, each
opened by a filter byte 0) and IEND; a chunk is length, name, content, CRC-32.
Source: PNG specification, third edition (W3C 2025)
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from consilium.core.errors import Refused

__all__ = ["data_uri", "difference_image", "encode"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of ``pixels`` ``(height, width)`` grey or ``(height, width, 3)`` RGB; another shape is refused.

    Raises Refused: another shape.
    """
    if pixels.ndim not in (2, 3) or pixels.size == 0 or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise Refused(f"an array of shape {pixels.shape} is no image", remedy="give (height, width) or (h, w, 3)")
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, dtype=np.uint8).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(lines, 9)) + _chunk(b"IEND", b"")


def data_uri(image: NDArray[np.float64]) -> str:
    """``image`` ``(channels, height, width)`` with 1 or 3 channels in [0, 1] as a ``data:`` URI."""
    pixels = np.rint(np.clip(np.nan_to_num(image), 0.0, 1.0) * 255).astype(np.uint8)
    flat = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
    return "data:image/png;base64," + base64.b64encode(encode(flat)).decode("ascii")


def difference_image(clean: NDArray[np.float64], changed: NDArray[np.float64]) -> NDArray[np.float64]:
    """``changed - clean`` scaled by its own largest size: grey is no change; RGB out ``(3, height, width)``.

    One channel becomes orange where it grew brighter and blue where darker; three channels stay three, around grey.
    """
    step = np.nan_to_num(changed - clean)
    scaled = step / max(float(np.abs(step).max(initial=0.0)), 1e-12)
    if len(scaled) != 1:
        return np.asarray(0.5 + scaled / 2)
    middle, size = np.array([0.93, 0.93, 0.93]), np.abs(scaled)
    brighter, darker = np.array([0.84, 0.37, 0.0]), np.array([0.0, 0.45, 0.70])  # Okabe-Ito vermilion and blue
    target = np.where(scaled > 0, brighter[:, None, None], darker[:, None, None])
    return np.asarray((1 - size) * middle[:, None, None] + size * target)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
