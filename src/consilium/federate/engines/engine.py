"""What carries exchanges.  An engine knows phases, inboxes and outboxes; it knows nothing of models or records.

Every engine gives a site the same inbox and the same state, so all of them train the same model; they differ in where
and how many at a time the sites work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch

from consilium.core.exchange import Exchange
from consilium.federate.participant import stage

if TYPE_CHECKING:
    from consilium.federate.assess import Assessment

__all__ = ["Engine", "Folding", "one_thread"]

ServerState = TypeVar("ServerState")
SiteState = TypeVar("SiteState")
Inbox = TypeVar("Inbox")
Outbox = TypeVar("Outbox")


@contextmanager
def one_thread() -> Iterator[None]:
    """A site works with one thread, whatever carries it: the order of a sum, so its bits, depends on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Engine(ABC):
    """A context manager: what it holds (processes, connections) is given back at the end.

    ``figures`` says in plain JSON what it is and what it found out about this machine; it goes into evidence.
    """

    @one_thread()  # a second one of this process would spin for milliseconds beside the workers of a pool
    def run(
        self,
        exchange: Exchange[ServerState, SiteState, Inbox, Outbox],
        server: ServerState,
        states: MutableMapping[str, SiteState],
        fresh: Callable[[], SiteState],
        name: str,
    ) -> ServerState:
        """Carry one exchange to its end; returns the server's state and writes every site's into ``states``.

        ``fresh`` makes the state of a site that takes part for the first time; ``name`` (``round 7``) stands in errors.
        """
        cohort, inbox = exchange.open(server)
        for phase in exchange.phases:
            held = {site: states[site] if site in states else fresh() for site in cohort}
            outboxes, after = self.phase(exchange, phase, cohort, inbox, held, name)
            for site in after:
                states[site] = after[site]
            with stage(f"{name}.server"):
                server = exchange.turned(server, self.faulty())
                server, following = exchange.server(phase, outboxes, server)
            if following is None:
                break
            inbox = following
        return server

    @abstractmethod
    def phase(
        self,
        exchange: Exchange[ServerState, SiteState, Inbox, Outbox],
        phase: str,
        cohort: Sequence[str],
        inbox: Inbox,
        states: Mapping[str, SiteState],
        name: str,
    ) -> tuple[dict[str, Outbox], dict[str, SiteState]]:
        """What every site of ``cohort`` answers in ``phase``, in that order, and its state after."""

    def shares(self, cohort: Sequence[str], workers: int) -> list[Sequence[str]]:
        """``cohort`` cut for ``workers`` processes that each run this engine: a few shares each, to even out sites."""
        count = min(len(cohort), workers * 4)
        return [cohort[i::count] for i in range(count)]

    def at_once(self, sites: int) -> int:
        """Of ``sites``, how many a probe must carry to see this engine at its pace."""
        return min(sites, 1)

    def turned(self) -> Mapping[str, str]:
        """What the last exchange turned away before the server half saw it, by sender; in one process nothing is."""
        return {}

    def faulty(self) -> Mapping[str, str]:
        """Of :meth:`turned`, whose answers were at fault, and not a site's own word that it takes no part."""
        return {}

    def figures(self) -> dict[str, Any]:
        """The engine's kind, and what it measured or chose."""
        return {"kind": type(self).__name__.lower()}

    def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """Give back what the engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Folding(Engine):
    """An engine to which an exchange is dear: it brings assessments together with a round's updates.

    While ``assess`` is set every site of a round also judges the model that the round begins with, which is the one
    after the round before; ``heard`` is what the last exchange brought.
    """

    assess: bool = False
    heard: Mapping[str, Assessment]
