"""Sites trained at once: their parameters carry a site axis, one kernel serves all of them.

Faster than one by one where a step is too small to keep a core busy (linear models, small perceptrons); slower for
convolutions on CPU.  It takes what it can compute exactly (``vectorised_clients``) and refuses the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from consilium.core.errors import ConsiliumError, Refused
from consilium.core.exchange import Exchange
from consilium.federate.client.participant import stage

from .engine import Engine, one_thread

__all__ = ["Stacked"]

ServerState = TypeVar("ServerState")
SiteState = TypeVar("SiteState")
Inbox = TypeVar("Inbox")
Outbox = TypeVar("Outbox")


class Stacked(Engine):
    """All sites of a cohort together, in this process."""

    tolerance = 1e-5  # sums are rounded as the stacks are cut

    @classmethod
    def why_not(cls, device: str, exchange: Exchange[Any, Any, Any, Any]) -> Refused | None:  # noqa: ARG003 - others ask
        """The exchange says whether its sites can be computed at once."""
        return exchange.why_not_together()

    def phase(
        self,
        exchange: Exchange[ServerState, SiteState, Inbox, Outbox],
        phase: str,
        cohort: Sequence[str],
        inbox: Inbox,
        states: Mapping[str, SiteState],
        name: str,
    ) -> Iterator[tuple[str, Outbox, SiteState]]:
        """At once, so all of a stack are in memory; an error names the round, since it is of no single site."""
        try:
            with one_thread(), stage("stacked"):
                outboxes, after = exchange.together(phase, cohort, inbox, states)
        except ConsiliumError as error:
            raise error.at(name) from error
        yield from ((site, outboxes[site], after[site]) for site in cohort)

    def shares(self, cohort: Sequence[str], workers: int) -> list[Sequence[str]]:
        """One stack a worker."""
        return [cohort[i::workers] for i in range(min(workers, len(cohort)))]

    def at_once(self, sites: int) -> int:
        """The whole cohort: a stack is the faster the higher it is."""
        return sites
