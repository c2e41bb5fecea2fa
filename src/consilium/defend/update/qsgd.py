"""QSGD: every coordinate is rounded up or down at random to one of 2 s + 1 levels of its bucket's scale.

    Q(v_i) = c sgn(v_i) l_i / s,    s = 2^(bits - 1) - 1,    E Q(v) = v

c is the bucket's length ||v|| (the theorems: E ||Q(v) - v||^2 <= min(n / s^2, sqrt(n) / s) ||v||^2 over n coordinates)
or its largest size |v_i| (what the paper's experiments use: far less noise).  Unbiased, so no error feedback.  Codes of
``bits`` bits are packed without gaps; the paper's Elias code is not used.  ceil(d bits / 8) + 4 ceil(d / bucket) bytes.

Source: Alistarh et al. 2017, QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding, arXiv 1610.02132
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.update import Payload

from ._bits import pack_bits, packed_length, unpack_bits
from ._codec import Codec, scales
from ._stochastic import round_down_or_up, value_of

__all__ = ["QSGD"]


@dataclass(frozen=True)
class QSGD(Codec):
    """Rounds every coordinate at random to ``bits`` bits, without bias; each ``bucket`` of coordinates has a scale.

    ``bucket`` 0 is one bucket for all; ``scale``: the bucket's largest coordinate, or its Euclidean length.
    """

    bits: int = 4
    """Bits of a coordinate, its sign among them."""
    bucket: int = 512
    """Coordinates that share one scale."""
    scale: Literal["max", "l2"] = "max"
    """Scale of a bucket: its largest coordinate, which is less noisy, or its Euclidean length."""

    def __post_init__(self) -> None:
        check(2 <= self.bits <= 8, "bits", self.bits, "2 to 8 bits")
        check(self.bucket >= 0, "bucket", self.bucket, "a number of coordinates, or 0 for one bucket")

    def wire(self, size: int) -> Mapping[str, tuple[torch.dtype, int]]:
        """``codes`` and one scale per bucket."""
        codes = (torch.uint8, packed_length(size, self.bits))
        return {"codes": codes, "scales": (torch.float32, self._buckets(size))}

    def encode(self, vector: Tensor, memory: Payload, generator: torch.Generator) -> tuple[Payload, Payload]:
        """Nothing is kept."""
        width = self._width(vector.numel())
        rows = torch.nn.functional.pad(vector, (0, -vector.numel() % width)).view(-1, width)
        norms = torch.linalg.vector_norm(rows, 2.0 if self.scale == "l2" else float("inf"), dim=1)
        codes = round_down_or_up(vector, self._spread(norms, vector.numel()), self._steps, generator)
        return {"codes": pack_bits(codes, self.bits), "scales": norms}, {}

    def decode(self, parts: Payload, size: int) -> Tensor:
        """The levels times their bucket's scale."""
        codes = unpack_bits(parts["codes"], size, self.bits)
        return value_of(codes, self._spread(scales(parts["scales"]), size), self._steps)

    @property
    def _steps(self) -> int:
        return int(2 ** (self.bits - 1)) - 1

    def _width(self, size: int) -> int:
        return self.bucket or size

    def _buckets(self, size: int) -> int:
        return -(-size // self._width(size))

    def _spread(self, norms: Tensor, size: int) -> Tensor:
        return norms.repeat_interleave(self._width(size))[:size]
