"""What an engine carries: phases of site and server functions.  Engines know nothing else.

A federated round is the one-phase case; secure aggregation and split learning have several.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from .errors import Refused

__all__ = ["Exchange"]

ServerState = TypeVar("ServerState")
SiteState = TypeVar("SiteState")
Inbox = TypeVar("Inbox")
Outbox = TypeVar("Outbox")


class Exchange(ABC, Generic[ServerState, SiteState, Inbox, Outbox]):
    """One exchange between a server and a cohort of sites."""

    phases: tuple[str, ...] = ("round",)

    @abstractmethod
    def open(self, server: ServerState) -> tuple[tuple[str, ...], Inbox]:
        """The cohort's site ids, and what each of them receives in the first phase."""

    @abstractmethod
    def site(self, phase: str, site: str, inbox: Inbox, state: SiteState) -> tuple[Outbox, SiteState]:
        """What ``site`` answers in ``phase``, and its state after.  Runs where the site's records are."""

    def together(
        self, phase: str, sites: Sequence[str], inbox: Inbox, states: Mapping[str, SiteState]
    ) -> tuple[dict[str, Outbox], dict[str, SiteState]]:
        """What many ``sites`` answer, computed at once; one that cannot do it is refused, never done one by one."""
        raise Refused("this exchange cannot be stacked", remedy='use engine = "pool" or "loop"')

    def turned(self, server: ServerState, refused: Mapping[str, str]) -> ServerState:
        """``server``, told whose answers an engine turned away before :meth:`server` sees the others, and why."""
        return server

    @abstractmethod
    def server(
        self, phase: str, outboxes: Mapping[str, Outbox], server: ServerState
    ) -> tuple[ServerState, Inbox | None]:
        """The server's state after ``phase`` and what it sends next; None ends the exchange."""
