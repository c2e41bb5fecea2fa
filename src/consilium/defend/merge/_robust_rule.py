"""What rules that hold all updates of a round have in common: their order, and updates that are not finite.

The updates are taken in the order of their sites' names, so that the order in which they came changes no bit.  An
update that is not finite is as far from the others as can be: it is left out, and counts as one of those that the rule
withstands.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from consilium.core.errors import Failed, Refused
from consilium.core.merge import Aggregator
from consilium.core.update import Aggregate, Payload, Update

from ._payloads import check_alike, is_finite

__all__ = ["RobustRule", "finite_in_order"]


def finite_in_order(updates: Sequence[Update], least: int, most: int) -> list[Update]:
    """The finite ones of ``updates``, by their sites' names.

    Raises Refused: fewer updates than ``least``, or two of different names or shapes.  Raises Failed: more than
    ``most`` are not finite.
    """
    if len(updates) < least:
        raise Refused(f"{len(updates)} updates came, and this merge needs {least}", remedy="merge more sites")
    cohort = sorted(updates, key=lambda update: update.site)
    check_alike(cohort)
    finite = [update for update in cohort if is_finite(update)]
    broken = len(cohort) - len(finite)
    if broken > most:
        reason = f"{broken} of {len(cohort)} updates are not finite, and this merge withstands {most}"
        raise Failed(reason, remedy="lower the learning rate")
    return finite


@dataclass(frozen=True, eq=False)
class RobustRule(Aggregator):
    """Merges finite updates of equal form; ``byzantine`` is f, how many it withstands, None for any minority."""

    byzantine: int | None = None
    least: int = 1

    reads: Literal["sum", "each"] = "each"

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """What :meth:`combine` makes of the finite ones.

        Raises Refused: too few updates, or two of different names or shapes.  Raises Failed: more of them are not
        finite than the rule withstands.
        """
        cohort = list(updates)
        most = self._most(len(cohort))
        finite = finite_in_order(cohort, self.least, most)
        payload, after = self.combine(finite, most - len(cohort) + len(finite), memory)
        return Aggregate(payload, sum(update.weight for update in cohort), len(cohort)), after

    def withstood(self, updates: int) -> int | None:
        """f, or any minority."""
        return self._most(updates)

    def _most(self, n: int) -> int:
        return (n - 1) // 2 if self.byzantine is None else self.byzantine

    @abstractmethod
    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """The merged payload of finite ``updates``, ``byzantine`` of which may be anything, and the memory after."""
