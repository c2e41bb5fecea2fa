"""Top-k: only the k = ceil(share d) coordinates of largest size are sent, with their positions.

    C(v) = (indices, values),    e <- v - D(C(v))

Positions cost 4 bytes each as int32, or d bits as a mask, whichever is less: 4 k + min(4 k, ceil(d / 8)) bytes in all.
Top-k is biased: without error feedback a coordinate that is never among the largest is never learned.

Source: Stich et al. 2018, Sparsified SGD with Memory, arXiv 1809.07599; Aji & Heafield 2017, arXiv 1704.05021
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.update import Payload

from ._bits import pack_bits, packed_length, unpack_bits
from ._codec import Codec, refuse

__all__ = ["TopK"]


@dataclass(frozen=True)
class TopK(Codec):
    """Sends the ``share`` of coordinates that is largest, exactly; with ``feedback`` the rest is sent later."""

    share: float = 0.01
    """Share of the coordinates that is sent."""
    feedback: bool = True
    """Whether what was not sent is added to the next update (error feedback)."""

    def __post_init__(self) -> None:
        check(0 < self.share <= 1, "share", self.share, "a share above 0, at most 1")

    @property
    def corrects(self) -> bool:
        """The entry's parameter ``feedback``."""
        return self.feedback

    def wire(self, size: int) -> Mapping[str, tuple[torch.dtype, int]]:
        """``values`` with ``indices`` (ascending) or a ``mask``."""
        k = self._count(size)
        values = {"values": (torch.float32, k)}
        if 4 * k <= packed_length(size, 1):
            return {"indices": (torch.int32, k), **values}
        return {"mask": (torch.uint8, packed_length(size, 1)), **values}

    def encode(self, vector: Tensor, memory: Payload, generator: torch.Generator) -> tuple[Payload, Payload]:
        """The k largest, in the order of their positions."""
        place = vector.abs().topk(self._count(vector.numel())).indices.sort().values
        values = {"values": vector[place]}
        if "indices" in self.wire(vector.numel()):
            return {"indices": place.int(), **values}, {}
        mask = torch.zeros(vector.shape, dtype=torch.int32, device=vector.device).index_fill(0, place, 1)
        return {"mask": pack_bits(mask, 1), **values}, {}

    def decode(self, parts: Payload, size: int) -> Tensor:
        """Zero where nothing was sent."""
        values = parts["values"]
        if not bool(values.isfinite().all()):
            raise refuse("a value is not finite")
        if "indices" in parts:
            place = parts["indices"].long()
            if bool((place < 0).any()) or bool((place >= size).any()):
                raise refuse("an index is out of range")
            if bool((place[1:] <= place[:-1]).any()):
                raise refuse("indices are repeated or not ascending")
        else:
            place = unpack_bits(parts["mask"], size, 1).nonzero()[:, 0]
            if len(place) != len(values):
                raise refuse(f"the mask has {len(place)} positions for {len(values)} values")
        return torch.zeros(size, device=values.device).index_copy(0, place, values)

    def _count(self, size: int) -> int:
        return min(size, max(1, math.ceil(self.share * size - 1e-9)))
