"""The debug engine: one site after the other, in this process.  Its errors name site, round and stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def phase(
        self,
        exchange: Exchange[ServerState, SiteState, Inbox, Outbox],
        phase: str,
        cohort: Sequence[str],
        inbox: Inbox,
        states: Mapping[str, SiteState],
        name: str,
    ) -> tuple[dict[str, Outbox], dict[str, SiteState]]:
        """In the order of the cohort."""
        outboxes: dict[str, Outbox] = {}
        after: dict[str, SiteState] = {}
        with one_thread():
            for site in cohort:
                try:
                    outboxes[site], after[site] = exchange.site(phase, site, inbox, states[site])
                except ConsiliumError as error:
                    raise error.at(f"{name}.{site}") from error
        return outboxes, after
