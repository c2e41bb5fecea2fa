"""The debug engine: one site after the other, in this process.  Its errors name site, round and stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from consilium.core.errors import ConsiliumError
from consilium.core.exchange import Exchange
from consilium.federate.participant import stage

__all__ = ["run_exchange"]

ServerState = TypeVar("ServerState")
SiteState = TypeVar("SiteState")
Inbox = TypeVar("Inbox")
Outbox = TypeVar("Outbox")


def run_exchange(
    exchange: Exchange[ServerState, SiteState, Inbox, Outbox],
    server: ServerState,
    sites: Mapping[str, SiteState],
    fresh: Callable[[], SiteState],
    name: str,
) -> tuple[ServerState, dict[str, SiteState]]:
    """Carry one exchange to its end; returns the server's state and every site's.

    ``fresh`` makes the state of a site that takes part for the first time; ``name`` (``round 7``) stands in errors.
    """
    states = dict(sites)
    cohort, inbox = exchange.open(server)
    for phase in exchange.phases:
        outboxes: dict[str, Outbox] = {}
        for site in cohort:
            try:
                state = states[site] if site in states else fresh()
                outboxes[site], states[site] = exchange.site(phase, site, inbox, state)
            except ConsiliumError as error:
                raise error.at(f"{name}.{site}") from error
        with stage(f"{name}.server"):
            server, following = exchange.server(phase, outboxes, server)
        if following is None:
            break
        inbox = following
    return server, states
