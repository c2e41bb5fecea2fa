"""What may leave a site, and what a merge makes of many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import Refused

__all__ = ["Aggregate", "Payload", "Update", "payload_bytes", "wire_bytes"]

Payload = Mapping[str, Tensor]
"""Named flat tensors: ``delta``, ``buffers``, ``control``, ..."""


@dataclass(frozen=True, eq=False)
class Update:
    """One site's contribution to one round.  No metric of private records travels in it.

    ``weight`` is the site's share in the merge (its declared number of records, or 1).
    """

    site: str
    round: int
    weight: float
    payload: Payload

    def check_sender(self, site: str, round: int) -> None:
        """Refuse an update that names another site or round than those it was received from and in.

        Raises Refused: the update names another site or round.
        """
        if self.site != site or self.round != round:
            raise Refused(f"claims to be from {self.site!r} in round {self.round}")


@dataclass(frozen=True, eq=False)
class Aggregate:
    """The merged payload, the total weight behind it, and how many updates it stands for."""

    payload: Payload
    weight: float
    count: int


def payload_bytes(payload: Payload) -> int:
    """Bytes of the tensors in ``payload`` as they would stand on the wire, without framing."""
    return sum(t.numel() * t.element_size() for t in payload.values())


def wire_bytes(payload: Payload) -> int:
    """Bytes of ``payload`` as a safetensors message: its tensors, and names, types and shapes in a header.

    The overhead of transport (HTTP, TLS) is not counted.  Source: the safetensors format, an 8 byte
    length, JSON padded with spaces to a multiple of 8, then the tensors, widest type first and by name.
    """
    at, header = 0, {}
    for name, tensor in sorted(payload.items(), key=lambda item: (-item[1].element_size(), item[0])):
        size = tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": _SHORT.get(tensor.dtype, "F32"), "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return 8 + -(-len(text) // 8) * 8 + at


_SHORT = {
    torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "U8", torch.int8: "I8",
    torch.int16: "I16", torch.int32: "I32", torch.int64: "I64", torch.bool: "BOOL",
}  # fmt: skip
