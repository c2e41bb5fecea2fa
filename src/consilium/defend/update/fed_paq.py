"""FedPAQ: the change of the model over a period of local steps, rounded at random with one scale for the whole update.

    Q(v_i) = ||v|| sgn(v_i) l_i / s,    E Q(v) = v,    E ||Q(v) - v||^2 <= min(d / s^2, sqrt(d) / s) ||v||^2

The paper's low-precision quantiser: QSGD's rule without buckets.  Its other two parts are the study's own: the period
is ``federation.local-epochs`` and partial participation ``federation.fraction``.  Codes 0 to 2 s are packed at
w = ceil(log2(2 s + 1)) bits: ceil(d w / 8) + 4 bytes.

Source: Reisizadeh et al. 2020, FedPAQ: A Communication-Efficient Federated Learning Method with Periodic Averaging and
Quantization, arXiv 1909.13014 (example 1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.update import Payload

from ._bits import pack_bits, packed_length, unpack_bits
from ._codec import Codec, scales
from ._stochastic import round_down_or_up, value_of

__all__ = ["FedPAQ"]


@dataclass(frozen=True)
class FedPAQ(Codec):
    """Rounds every coordinate at random to one of 2 ``levels`` + 1 values within the update's length, without bias."""

    levels: int = 127
    """Levels above 0 that a coordinate is rounded to."""

    def __post_init__(self) -> None:
        check(1 <= self.levels <= 32_767, "levels", self.levels, "1 to 32767 levels")

    def wire(self, size: int) -> Mapping[str, tuple[torch.dtype, int]]:
        """``codes`` and the length of the whole."""
        return {"codes": (torch.uint8, packed_length(size, self._width)), "norm": (torch.float32, 1)}

    def encode(self, vector: Tensor, memory: Payload, generator: torch.Generator) -> tuple[Payload, Payload]:
        """Nothing is kept."""
        norm = torch.linalg.vector_norm(vector).reshape(1)
        return {
            "codes": pack_bits(round_down_or_up(vector, norm, self.levels, generator), self._width),
            "norm": norm,
        }, {}

    def decode(self, parts: Payload, size: int) -> Tensor:
        """The levels times the length."""
        return value_of(unpack_bits(parts["codes"], size, self._width), scales(parts["norm"]), self.levels)

    @property
    def _width(self) -> int:
        return (2 * self.levels).bit_length()
