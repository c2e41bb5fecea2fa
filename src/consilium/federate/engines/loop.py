"""The debug engine: one site after the other, in this process.  Its errors name site, round and stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from consilium.core.errors import ConsiliumError
from consilium.core.exchange import Exchange

from .engine import Engine, one_thread

__all__ = ["Loop"]

ServerState = TypeVar("ServerState")
SiteState = TypeVar("SiteState")
Inbox = TypeVar("Inbox")
Outbox = TypeVar("Outbox")


class Loop(Engine):
    """One site after the other."""

    @property
    def streams(self) -> bool:
        """A site works when its outbox is read."""
        return True

    def phase(
        self,
        exchange: Exchange[ServerState, SiteState, Inbox, Outbox],
        phase: str,
        cohort: Sequence[str],
        inbox: Inbox,
        states: Mapping[str, SiteState],
        name: str,
    ) -> Iterator[tuple[str, Outbox, SiteState]]:
        """In the order of the cohort."""
        for site in cohort:
            try:
                with one_thread():
                    outbox, after = exchange.site(phase, site, inbox, states[site])
            except ConsiliumError as error:
                raise error.at(f"{name}.{site}") from error
            yield site, outbox, after
            del outbox, after  # they may be as large as the model
