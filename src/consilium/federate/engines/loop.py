"""The debug engine: one site after the other, in this process.  Its errors name site, round and stage."""

from __future__ import annotations

from collections.abc import Iterator

from consilium.core.errors import ConsiliumError
from consilium.core.exchange import Inbox, Outbox, SiteState

from .engine import Engine, PhaseWork, one_thread

__all__ = ["Loop"]


class Loop(Engine):
    """One site after the other."""

    @property
    def streams(self) -> bool:
        """A site works when its outbox is read."""
        return True

    def carry(self, work: PhaseWork[SiteState, Inbox, Outbox]) -> Iterator[tuple[str, Outbox, SiteState]]:
        """In the order of the cohort."""
        for site in work.cohort:
            try:
                with one_thread():
                    outbox, after = work.sites.site(work.phase, site, work.inbox, work.states[site])
            except ConsiliumError as error:
                raise error.at(f"{work.name}.{site}") from error
            yield site, outbox, after
            del outbox, after  # they may be as large as the model
