"""The table ``[audit]`` of a study: canaries, and how guesses about them are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from consilium.core.entry import check
from consilium.core.plain import Json
from consilium.data.division.canaries import CanaryKind

__all__ = ["CanarySpec"]


@dataclass(frozen=True)
class CanarySpec:
    """The table ``[audit]``: the canaries that every training of the study gets, and how its guesses are counted.

    ``site`` is where they are planted, empty for all sites alike.  ``guesses`` are shares of the canaries on which an
    attack does not abstain; the best of them is taken, and corrected for.  ``delta`` is that of the bound where an arm
    makes no claim to take it from.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid", "allow_inf_nan": False}
    canaries: int
    kind: CanaryKind = "noise"
    site: str = ""
    guesses: tuple[float, ...] = (0.05, 0.2, 0.5)
    delta: float = 1e-5

    def __post_init__(self) -> None:
        check(2 <= self.canaries <= 1_000_000, "canaries", self.canaries, "2 to 1000000 canaries, better 1000")
        check(0 < len(self.guesses) <= 20, "guesses", f"{len(self.guesses)} shares", "1 to 20 of them")
        check(all(0 < share <= 1 for share in self.guesses), "guesses", self.guesses, "shares above 0, at most 1")
        check(0 <= self.delta < 1, "delta", self.delta, "a probability from 0 on and far below 1, such as 1e-5")

    def planting(self) -> dict[str, Json]:
        """What a training depends on, canonical JSON."""
        return {"canaries": self.canaries, "kind": self.kind, "site": self.site}

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        return {**self.planting(), "guesses": list(self.guesses), "delta": self.delta}
