"""The debug engine: one site after the other, in this process.  Its errors name site, round and stage."""

from __future__ import annotations

from collections.abc import Iterator

from consilium.core.errors import ConsiliumError
from consilium.core.exchange import Inbox, Outbox, SiteState

from .engine import Engine, Task, one_thread

__all__ = ["Loop"]


class Loop(Engine):
    """One site after the other."""

    @property
    def streams(self) -> bool:
        """A site works when its outbox is read."""
        return True

    def carry(self, task: Task[SiteState, Inbox, Outbox]) -> Iterator[tuple[str, Outbox, SiteState]]:
        """In the order of the cohort."""
        for site in task.cohort:
            try:
                with one_thread():
                    outbox, after = task.sites.site(task.phase, site, task.inbox, task.states[site])
            except ConsiliumError as error:
                raise error.at(f"{task.name}.{site}") from error
            yield site, outbox, after
            del outbox, after  # they may be as large as the model
