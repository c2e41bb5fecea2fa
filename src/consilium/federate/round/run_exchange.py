"""One exchange from its opening to its end: the server reads what the sites answer, and an engine carries the question.

The server pulls: where exchange and engine both stream, a site works when its outbox is read, so that no more than a
few of them are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from copy import copy
from typing import Generic

from consilium.core.exchange import Exchange, Inbox, Outbox, ServerState, SiteState
from consilium.core.streamed import Streamed
from consilium.federate.client.participant import stage
from consilium.federate.client.states_before import StatesOrFresh
from consilium.federate.engines.engine import Engine, PhaseWork, one_thread

__all__ = ["first_work", "run_exchange"]


@one_thread()  # a second one of this process would spin for milliseconds beside the workers of a pool
def run_exchange(
    engine: Engine,
    exchange: Exchange[ServerState, SiteState, Inbox, Outbox],
    server: ServerState,
    states: MutableMapping[str, SiteState],
    fresh: Callable[[], SiteState],
    name: str,
) -> ServerState:
    """Carry one exchange to its end; returns the server's state and writes every site's into ``states``.

    ``fresh`` makes the state of a site that takes part for the first time; ``name`` (``round 7``) is used in errors.
    Where exchange and engine both stream, a site works when the server reads its outbox.
    """
    cohort, inbox = exchange.open(server)
    for phase in exchange.phases:
        work = PhaseWork(exchange.site_half, phase, cohort, inbox, StatesOrFresh(copy(states), fresh), name)
        answers = _Answers(engine, work, states)
        try:
            streamed = engine.streams and exchange.streams
            outboxes = Streamed(cohort, answers.read) if streamed else dict(answers.read())
            with stage(f"{name}.server"):
                server = exchange.reject(server, engine.faulty())
                server, following = exchange.server(phase, outboxes, server)
            answers.complete()
        except _SiteError as caught:
            raise caught.error from caught.error.__cause__
        if following is None:
            break
        inbox = following
    return server


def first_work(
    exchange: Exchange[ServerState, SiteState, Inbox, Outbox],
    server: ServerState,
    fresh: Callable[[], SiteState],
    name: str = "probe",
) -> PhaseWork[SiteState, Inbox, Outbox]:
    """What an engine is given first of an ``exchange`` whose sites are new, for a probe: nothing is kept of it."""
    cohort, inbox = exchange.open(server)
    return PhaseWork(exchange.site_half, exchange.phases[0], cohort, inbox, {site: fresh() for site in cohort}, name)


class _SiteError(Exception):
    """Takes an error of a site's work past the server code that reads the outboxes: it is not the server's."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Answers(Generic[SiteState, Inbox, Outbox]):
    """A phase that is carried each time its outboxes are read, always from the same states.

    What sites keep is written into ``states`` at the first reading and is the same at every other.
    """

    def __init__(
        self, engine: Engine, work: PhaseWork[SiteState, Inbox, Outbox], states: MutableMapping[str, SiteState]
    ) -> None:
        self._engine, self._work, self._states, self._written = engine, work, states, False

    def read(self) -> Iterator[tuple[str, Outbox]]:
        """Sites and outboxes, in the order of the cohort."""
        try:
            for site, outbox, after in self._engine.carry(self._work):
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
