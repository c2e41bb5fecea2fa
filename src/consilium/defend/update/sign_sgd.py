"""SignSGD: one bit a coordinate, its sign, and one scale, the mean size; with error feedback.

    C(v) = (||v||_1 / d) sgn(v),    sgn(0) = +1,    e <- v - C(v)

Bernstein's signSGD merges signs by majority vote; here the scaled signs of Karimireddy et al. are merged like any other
update, because without scale and feedback signs need not converge.  ceil(d / 8) + 4 bytes.

Source: Bernstein et al. 2018, signSGD, arXiv 1802.04434; Karimireddy et al. 2019, Error Feedback Fixes SignSGD,
arXiv 1901.09847
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.update import Payload

from ._bits import pack_bits, packed_length, unpack_bits
from ._codec import Codec, scales

__all__ = ["SignSGD"]


@dataclass(frozen=True)
class SignSGD(Codec):
    """Sends the sign of every coordinate and their mean size; with ``feedback`` the error is sent later."""

    feedback: bool = True
    """Whether what was not sent is added to the next update (error feedback)."""

    @property
    def corrects(self) -> bool:
        """The entry's parameter ``feedback``."""
        return self.feedback

    def wire(self, size: int) -> Mapping[str, tuple[torch.dtype, int]]:
        """``signs`` and one ``scale``."""
        return {"signs": (torch.uint8, packed_length(size, 1)), "scale": (torch.float32, 1)}

    def encode(self, vector: Tensor, memory: Payload, generator: torch.Generator) -> tuple[Payload, Payload]:
        """Bit 1 encodes plus."""
        return {"signs": pack_bits(vector >= 0, 1), "scale": vector.abs().mean().reshape(1)}, {}

    def decode(self, parts: Payload, size: int) -> Tensor:
        """The scale with either sign."""
        return (2 * unpack_bits(parts["signs"], size, 1) - 1).float() * scales(parts["scale"])
