"""Sites trained at once: their parameters carry a site axis, one kernel serves all of them.

Faster than one by one where a step is too small to keep a core busy (linear models, small perceptrons); slower for
convolutions on CPU.  It takes what it can compute exactly (``vectorised_clients``) and refuses the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from consilium.core.errors import ConsiliumError, Refused
from consilium.core.exchange import Inbox, Outbox, SiteHalf, SiteState
from consilium.federate.client.participant import stage

from .engine import Engine, PhaseWork, one_thread

__all__ = ["Stacked"]


class Stacked(Engine):
    """All sites of a cohort together, in this process."""

    tolerance = 1e-5  # sums are rounded as the stacks are cut

    @classmethod
    def why_not(cls, device: str, sites: SiteHalf[Any, Any, Any]) -> Refused | None:  # noqa: ARG003 - others ask
        """The site half says whether it can be computed at once."""
        return sites.why_not_together()

    def carry(self, work: PhaseWork[SiteState, Inbox, Outbox]) -> Iterator[tuple[str, Outbox, SiteState]]:
        """At once, so all of a stack are in memory; an error names the round, since it is of no single site."""
        try:
            with one_thread(), stage("stacked"):
                outboxes, after = work.sites.together(work.phase, work.cohort, work.inbox, work.states)
        except ConsiliumError as error:
            raise error.at(work.name) from error
        yield from ((site, outboxes[site], after[site]) for site in work.cohort)

    def shares(self, cohort: Sequence[str], workers: int) -> list[Sequence[str]]:
        """One stack a worker."""
        return [cohort[i::workers] for i in range(min(workers, len(cohort)))]

    def at_once(self, sites: int) -> int:
        """The whole cohort: a stack is the faster the higher it is."""
        return sites
