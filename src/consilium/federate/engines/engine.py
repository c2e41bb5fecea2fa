"""Engines carry the phases of an exchange.  They depend on inboxes and outboxes only, not on models or records.

Every engine gives a site the same inbox and the same state, so all of them train the same model; they differ in where
and how many at a time the sites work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, ClassVar, Generic, Self

import torch

from consilium.core.errors import Refused
from consilium.core.exchange import Inbox, Outbox, SiteHalf, SiteState
from consilium.core.plain import Json

__all__ = ["Engine", "PhaseWork", "one_thread"]

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


@dataclass(frozen=True, eq=False)
class PhaseWork(Generic[SiteState, Inbox, Outbox]):
    """One phase as an engine is given it: each site of ``cohort`` answers ``inbox``, from its state in ``states``.

    ``name`` (``round 7``) stands in errors.
    """

    sites: SiteHalf[SiteState, Inbox, Outbox]
    phase: str
    cohort: Sequence[str]
    inbox: Inbox
    states: Mapping[str, SiteState]
    name: str

    def of(self, cohort: Sequence[str]) -> PhaseWork[SiteState, Inbox, Outbox]:
        """The same for ``cohort``."""
        return replace(self, cohort=cohort)


class Engine(ABC):
    """A context manager: what it holds (processes, connections) is given back at the end.

    ``figures`` describes it, and its measurements of this machine, as plain JSON for the evidence.  ``joins``: an
    exchange is expensive, so two exchanges are joined where possible (:class:`~consilium.core.exchange.Joint`).
    """

    joins: ClassVar[bool] = False
    tolerance: float = 0.0
    """The relative distance within which two runs of it agree: 0 where they agree to the last bit."""

    @classmethod
    def why_not(cls, device: str, sites: SiteHalf[Any, Any, Any]) -> Refused | None:  # noqa: ARG003 - others ask
        """Why this kind of engine cannot carry the work of ``sites`` on ``device`` here; None if it can."""
        return None

    @property
    def streams(self) -> bool:
        """Whether outboxes are computed one by one, and can be computed again; else it has all of a phase at once."""
        return False

    @abstractmethod
    def carry(self, work: PhaseWork[SiteState, Inbox, Outbox]) -> Iterator[tuple[str, Outbox, SiteState]]:
        """What every site of the work's cohort answers, in that order, and its state after.

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
