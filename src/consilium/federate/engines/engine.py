"""Engines carry exchanges.  They depend on phases, inboxes and outboxes only, not on models or records.

Every engine gives a site the same inbox and the same state, so all of them train the same model; they differ in where
and how many at a time the sites work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch

from consilium.core.errors import Refused
from consilium.core.exchange import Exchange
from consilium.core.plain import Json
from consilium.core.streamed import Streamed
from consilium.federate.client.participant import stage

__all__ = ["Engine", "one_thread"]

ServerState = TypeVar("ServerState")
SiteState = TypeVar("SiteState")
Inbox = TypeVar("Inbox")
Outbox = TypeVar("Outbox")

_SHARE = 4
"""Sites in one share at most: what a worker returns at once is in memory at once."""


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

    ``figures`` describes it, and its measurements of this machine, as plain JSON for the evidence.  ``joins``: an
    exchange is expensive, so two exchanges are joined where possible (:class:`~consilium.core.exchange.Joint`).
    """

    joins: ClassVar[bool] = False
    tolerance: float = 0.0
    """The relative distance within which two runs of it agree: 0 where they agree to the last bit."""

    @classmethod
    def why_not(cls, device: str, exchange: Exchange[Any, Any, Any, Any]) -> Refused | None:  # noqa: ARG003 - others ask
        """Why this kind of engine cannot carry ``exchange`` on ``device`` here; None if it can."""
        return None

    @property
    def streams(self) -> bool:
        """Whether outboxes are computed one by one, and can be computed again; else it has all of a phase at once."""
        return False

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

        ``fresh`` makes the state of a site that takes part for the first time; ``name`` (``round 7``) is used in
        errors.  Where exchange and engine both stream, a site works when the server reads its outbox.
        """
        cohort, inbox = exchange.open(server)
        for phase in exchange.phases:
            carry = partial(self.phase, exchange, phase, cohort, inbox, name=name)
            answers = _Answers(carry, states, fresh)
            try:
                streamed = self.streams and exchange.streams
                outboxes = Streamed(cohort, answers.read) if streamed else dict(answers.read())
                with stage(f"{name}.server"):
                    server = exchange.reject(server, self.faulty())
                    server, following = exchange.server(phase, outboxes, server)
                answers.complete()
            except _SiteError as caught:
                raise caught.error from caught.error.__cause__
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
    ) -> Iterator[tuple[str, Outbox, SiteState]]:
        """What every site of ``cohort`` answers in ``phase``, in that order, and its state after.

        A site that does not answer is left out.
        """

    def shares(self, cohort: Sequence[str], workers: int) -> list[Sequence[str]]:
        """``cohort`` cut for ``workers`` processes that each run this engine: a few shares each, to even out sites.

        None has more than four sites, so that what a worker returns at once does not grow with the cohort.
        """
        size = max(1, min(_SHARE, -(-len(cohort) // (workers * 4))))
        return [cohort[start : start + size] for start in range(0, len(cohort), size)]

    def at_once(self, sites: int) -> int:
        """Of ``sites``, how many a probe must carry to see this engine at its pace."""
        return min(sites, 1)

    def rejections(self) -> Mapping[str, str]:
        """What the last exchange rejected before the server half read it, by sender; in one process nothing is."""
        return {}

    def faulty(self) -> Mapping[str, str]:
        """The senders of :meth:`rejections` whose answers were faulty, without the sites that refused to take part."""
        return {}

    def figures(self) -> dict[str, Json]:
        """The engine's kind, and what it measured or chose."""
        return {"kind": type(self).__name__.lower()}

    def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """Give back what the engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _SiteError(Exception):
    """Takes an error of a site's work past the server code that reads the outboxes: it is not the server's."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _States(Mapping[str, SiteState]):
    """Every site's state before a phase, read when it is needed; a fresh one for a site that is new."""

    def __init__(self, states: Mapping[str, SiteState], fresh: Callable[[], SiteState]) -> None:
        self._states, self._fresh = states, fresh

    def __getitem__(self, site: str) -> SiteState:
        return self._states[site] if site in self._states else self._fresh()

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)


class _Answers(Generic[SiteState, Outbox]):
    """A phase that is carried each time its outboxes are read, always from the same states.

    What sites keep is written at the first reading and is the same at every other.
    """

    def __init__(
        self,
        carry: Callable[[Mapping[str, SiteState]], Iterator[tuple[str, Outbox, SiteState]]],
        states: MutableMapping[str, SiteState],
        fresh: Callable[[], SiteState],
    ) -> None:
        self._carry, self._states, self._before, self._written = carry, states, _States(copy(states), fresh), False

    def read(self) -> Iterator[tuple[str, Outbox]]:
        """Sites and outboxes, in the order of the cohort."""
        try:
            for site, outbox, after in self._carry(self._before):
                if not self._written:
                    self._states[site] = after
                yield site, outbox
        except Exception as error:
            raise _SiteError(error) from error
        self._written = True

    def complete(self) -> None:
        """See to it that every site has worked, whatever the server read."""
        if not self._written:
            for _ in self.read():
                pass
