"""How far colluders can go from the honest mean and still be no further from the honest updates than those are.

    delta' = mu + gamma p,    p = -mu / ||mu||,  -sigma,  or  -sign(mu)

``gamma`` is the largest that a bound on the distances allows.  They are quadratic in it, so it has a closed form:
nothing is searched.

Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine, NDSS, section IV
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.attack import Corruption
from consilium.core.collusion import OmniscientView
from consilium.core.entry import check
from consilium.core.threat import RoundView, ThreatModel, require
from consilium.core.update import Payload, Update

from ._forged import deltas, with_delta

__all__ = ["Direction", "WithinHonest", "largest_root"]

Direction = Literal["unit", "deviation", "sign"]


@dataclass(frozen=True)
class WithinHonest(Corruption, ABC):
    """A subclass says in ``reach`` how far it may go."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "white-box", "poisoning")
    nist: ClassVar[str | None] = "NISTAML.011"
    needs: ClassVar[type[RoundView]] = OmniscientView

    direction: Direction

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")

    @abstractmethod
    def reach(self, honest: Tensor, way: Tensor) -> float:
        """The largest gamma for ``honest (n, d)`` updates and the direction ``way (d,)``, both float64."""

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """The same for all; with fewer than two honest updates to read, their own."""
        honest = deltas(require(view, OmniscientView, self.kind()).updates.values())
        if not updates or len(honest) < 2:
            return updates, memory
        exact = honest.to(torch.float64)
        way = self._way(exact)
        forged = exact.mean(0) + self.reach(exact, way) * way
        return with_delta(updates, forged.to(honest.dtype)), memory

    def _way(self, honest: Tensor) -> Tensor:
        mean: Tensor = honest.mean(0)
        if self.direction == "unit":
            unit: Tensor = mean / torch.linalg.vector_norm(mean).clamp_min(1e-300)
            return -unit
        return -honest.std(0) if self.direction == "deviation" else -mean.sign()


def largest_root(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The larger root of a g^2 + 2 b g + c, for a > 0 and c <= 0; 0 where a is 0."""
    root = (-b + (b.square() - a * c).clamp_min(0).sqrt()) / a
    larger: Tensor = torch.where(a > 0, root, torch.zeros_like(root)).nan_to_num(0.0)
    return larger
