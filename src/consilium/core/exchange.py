"""An exchange between a server and its sites: phases of site and server functions.

The two halves are two objects.  Engines depend on the site half alone, so what carries an exchange never holds its
server.  A federated round is the one-phase case; secure aggregation and split learning have several.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from .errors import Refused

__all__ = ["Exchange", "Joint", "SiteHalf"]

ServerState = TypeVar("ServerState")
SiteState = TypeVar("SiteState")
Inbox = TypeVar("Inbox")
Outbox = TypeVar("Outbox")
FirstState = TypeVar("FirstState")
FirstInbox = TypeVar("FirstInbox")
FirstOutbox = TypeVar("FirstOutbox")


class SiteHalf(ABC, Generic[SiteState, Inbox, Outbox]):
    """What the sites of an exchange do.  It runs where the records are.

    ``site`` is a pure function: an engine may call it again with the same inbox and state, and drop the second answer.
    """

    @abstractmethod
    def site(self, phase: str, site: str, inbox: Inbox, state: SiteState) -> tuple[Outbox, SiteState]:
        """What ``site`` answers in ``phase``, and its state after."""

    def together(
        self, phase: str, sites: Sequence[str], inbox: Inbox, states: Mapping[str, SiteState]
    ) -> tuple[dict[str, Outbox], dict[str, SiteState]]:
        """What many ``sites`` answer, computed at once; raises Refused where that is impossible, never one by one.

        Raises Refused: this exchange cannot be stacked.
        """
        raise _unstackable()

    def why_not_together(self) -> Refused | None:
        """Why :meth:`together` cannot compute what these sites answer; None if it can."""
        return _unstackable()


class Exchange(ABC, Generic[ServerState, SiteState, Inbox, Outbox]):
    """One exchange between a server and a cohort of sites: the server's functions, and the site half."""

    phases: tuple[str, ...] = ("round",)

    @property
    @abstractmethod
    def site_half(self) -> SiteHalf[SiteState, Inbox, Outbox]:
        """What the sites do; the same object each time, by which a worker that was forked with it knows it."""

    @property
    def streams(self) -> bool:
        """True where :meth:`server` reads the outboxes one at a time, in order, by ``outboxes.items()``.

        Then an engine may compute each outbox when it is read, and again where ``items()`` is read a second time.
        Otherwise it hands over all of them at once, in memory.
        """
        return False

    @abstractmethod
    def open(self, server: ServerState) -> tuple[tuple[str, ...], Inbox]:
        """The cohort's site ids, and what each of them receives in the first phase."""

    def reject(self, server: ServerState, refused: Mapping[str, str]) -> ServerState:
        """``server`` with the answers that an engine rejected before :meth:`server` reads the others; by site."""
        return server

    @abstractmethod
    def server(
        self, phase: str, outboxes: Mapping[str, Outbox], server: ServerState
    ) -> tuple[ServerState, Inbox | None]:
        """The server's state after ``phase`` and what it sends next; None ends the exchange.

        ``outboxes`` are in the order of the cohort, without the sites that did not answer.
        """


def _unstackable() -> Refused:
    return Refused("this exchange cannot be stacked", remedy='use engine = "pool" or "loop"')


class Joint(
    Exchange[tuple[FirstState, ServerState], SiteState, tuple[FirstInbox, Inbox], tuple[FirstOutbox, Outbox]],
    Generic[FirstState, FirstInbox, FirstOutbox, ServerState, SiteState, Inbox, Outbox],
):
    """Two one-phase exchanges carried as one: each site answers ``first``, then ``second``, whose cohort it is."""

    def __init__(
        self,
        first: Exchange[FirstState, SiteState, FirstInbox, FirstOutbox],
        second: Exchange[ServerState, SiteState, Inbox, Outbox],
    ) -> None:
        self.first, self.second, self.phases = first, second, second.phases
        self._site_half = _JointSites(first.phases[0], first.site_half, second.site_half)

    @property
    def site_half(self) -> SiteHalf[SiteState, tuple[FirstInbox, Inbox], tuple[FirstOutbox, Outbox]]:
        """Both answers, one after the other."""
        return self._site_half

    def open(self, server: tuple[FirstState, ServerState]) -> tuple[tuple[str, ...], tuple[FirstInbox, Inbox]]:
        """The second one's cohort, and both inboxes."""
        cohort, inbox = self.second.open(server[1])
        return cohort, (self.first.open(server[0])[1], inbox)

    def reject(
        self, server: tuple[FirstState, ServerState], refused: Mapping[str, str]
    ) -> tuple[FirstState, ServerState]:
        """Both servers record it."""
        return self.first.reject(server[0], refused), self.second.reject(server[1], refused)

    def server(
        self, phase: str, outboxes: Mapping[str, tuple[FirstOutbox, Outbox]], server: tuple[FirstState, ServerState]
    ) -> tuple[tuple[FirstState, ServerState], None]:
        """Both servers' steps; the exchange is over."""
        first, _ = self.first.server(
            self.first.phases[0], {site: one for site, (one, _) in outboxes.items()}, server[0]
        )
        second, _ = self.second.server(phase, {site: two for site, (_, two) in outboxes.items()}, server[1])
        return (first, second), None


class _JointSites(
    SiteHalf[SiteState, tuple[FirstInbox, Inbox], tuple[FirstOutbox, Outbox]],
    Generic[SiteState, FirstInbox, FirstOutbox, Inbox, Outbox],
):
    def __init__(
        self,
        phase: str,
        first: SiteHalf[SiteState, FirstInbox, FirstOutbox],
        second: SiteHalf[SiteState, Inbox, Outbox],
    ) -> None:
        self._phase, self._first, self._second = phase, first, second

    def site(
        self, phase: str, site: str, inbox: tuple[FirstInbox, Inbox], state: SiteState
    ) -> tuple[tuple[FirstOutbox, Outbox], SiteState]:
        first, state = self._first.site(self._phase, site, inbox[0], state)
        second, state = self._second.site(phase, site, inbox[1], state)
        return (first, second), state
