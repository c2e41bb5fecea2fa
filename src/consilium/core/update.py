"""What may leave a site, and what a merge makes of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Aggregate", "Payload", "Update", "payload_bytes"]

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


@dataclass(frozen=True, eq=False)
class Aggregate:
    """The merged payload, the total weight behind it, and how many updates it stands for."""

    payload: Payload
    weight: float
    count: int


def payload_bytes(payload: Payload) -> int:
    """Bytes of the tensors in ``payload`` as they would stand on the wire, without framing."""
    return sum(t.numel() * t.element_size() for t in payload.values())
