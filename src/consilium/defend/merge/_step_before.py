"""A merge rule behind a step that makes other updates of those of the round."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from consilium.core.merge import Aggregator, RootUpdate
from consilium.core.update import Aggregate, Payload, Update

from ._robust_rule import finite_in_order

__all__ = ["StepBefore"]


@dataclass(frozen=True, eq=False)
class StepBefore(Aggregator):
    """Hands ``rule`` what :meth:`changed` makes of the finite updates, in the order of their sites."""

    rule: Aggregator
    least: int = 1

    reads: Literal["sum", "each"] = "each"

    def at(self, root: RootUpdate) -> Aggregator:
        """This step before the rule of that round."""
        return replace(self, rule=self.rule.at(root))

    def broadcast_memory(self, memory: Payload) -> Payload:
        """The rule's."""
        return self.rule.broadcast_memory(memory)

    def expects(self) -> Mapping[str, tuple[int, ...]]:
        """The rule's."""
        return self.rule.expects()

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """The rule's aggregate; it stands for all updates of the round.

        Raises Refused: two updates differ in names or shapes.
        """
        cohort = list(updates)
        finite = finite_in_order(cohort, self.least, self.withstood(len(cohort)))
        aggregate, after = self.rule.merge(self.changed(finite), memory)
        return Aggregate(aggregate.payload, sum(update.weight for update in cohort), len(cohort)), after

    def withstood(self, n: int) -> int:
        """How many of ``n`` updates need not be finite: those are left out.  Default: any minority."""
        return (n - 1) // 2

    @abstractmethod
    def changed(self, updates: Sequence[Update]) -> list[Update]:
        """The updates that the rule sees; at least one."""
