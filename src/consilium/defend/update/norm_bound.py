"""Norm bound: an update's delta is scaled down to length ``bound``, at the site and again at the server.

    delta <- delta min(1, bound / ||delta||)

An honest site clips; a corrupted one may not (LAWS 4), so the server half clips every update, whichever site sent
it.  Only ``delta`` is bounded; what else travels must be finite.  The server must see each update (LAWS 2).

Source: Sun et al. 2019, Can You Really Backdoor Federated Learning?, arXiv 1911.07963
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from consilium.core.defence import UpdateDefence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.threat import Aim
from consilium.core.update import Payload, Update

__all__ = ["NormBound"]

_DELTA = "delta"


@dataclass(frozen=True)
class NormBound(UpdateDefence):
    """Bounds the length of every update, enforced by the server; an update that is not finite is refused."""

    mitigates: ClassVar[tuple[Aim, ...]] = ("poisoning",)

    bound: float = 1.0
    """Length to which each update's delta is cut."""

    def __post_init__(self) -> None:
        check(0 < self.bound < float("inf"), "bound", self.bound, "a positive number")

    def protect(self, update: Update, memory: Payload, stream: Stream) -> tuple[Update, Payload]:
        """The site half; nothing is kept."""
        return self._bounded(update), memory

    def enforce(self, update: Update, expected: Mapping[str, tuple[int, ...]]) -> Update:
        """The server half: the same for every update."""
        return self._bounded(update)

    def _bounded(self, update: Update) -> Update:
        """Never longer than ``bound``; the same bits if it was not."""
        for name, tensor in update.payload.items():
            if not tensor.isfinite().all():
                raise Refused(f"the update's {name} is not finite", remedy="leave this site out", where=update.site)
        if _DELTA not in update.payload:
            raise Refused(f"the update has no {_DELTA} to bound", remedy="leave out norm-bound", where=update.site)
        delta = update.payload[_DELTA]
        norm = float(torch.linalg.vector_norm(delta, dtype=torch.float64))
        if norm <= self.bound:
            return update
        # A hair shorter than the bound, so that rounding cannot leave it longer: twice is the same as once.
        return replace(update, payload={**update.payload, _DELTA: delta * (self.bound / norm * (1 - 1e-6))})
