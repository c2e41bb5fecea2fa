"""How many updates a rule needs to withstand f of them, and the refusal where a round has fewer."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.merge import Cohort

__all__ = ["FewestUpdates", "check_byzantine"]


@dataclass(frozen=True)
class FewestUpdates:
    """n >= ``each`` f + ``more``."""

    each: int
    more: int

    def of(self, byzantine: int) -> int:
        """The least n for f = ``byzantine``."""
        return self.each * byzantine + self.more

    def check(self, kind: str, byzantine: int, cohort: Cohort) -> None:
        """Refuse a cohort in which ``kind`` cannot withstand so many.

        Raises Refused: too few updates are expected in a round.
        """
        needed, n = self.of(byzantine), int(cohort.expected)
        if n >= needed:
            return
        most = (n - self.more) // self.each
        raise Refused(
            f"{kind} with byzantine = {byzantine} needs {self.each}f + {self.more} = {needed} updates a round, and "
            f"{n} are expected",
            remedy=f"use at least {needed} sites in a round" + (f", or byzantine = {most}" if most >= 0 else ""),
        )


def check_byzantine(byzantine: int) -> None:
    """Refuse a number of corrupted sites below 0.

    Raises Refused: it is negative.
    """
    check(byzantine >= 0, "byzantine", byzantine, "a number of sites, 0 or more")
