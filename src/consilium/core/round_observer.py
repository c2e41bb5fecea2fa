"""Adversaries that watch a training round by round, and the views of a round that they are granted.

    memory <- {};   each round: memory <- observe(memory, view of the round);   in the end: run(view, memory) -> finding

A site that takes part sees what is broadcast to it (:class:`BroadcastRoundView`).  The server sees besides what each
site sends (:class:`UpdateRoundView`), or only the sum where updates are masked (:class:`AggregateRoundView`).  Every
view holds the records whose membership is in question, and nothing that reveals which are members.  ``memory`` holds
statistics per candidate; its size must not grow with the rounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from torch import Tensor

from .attack import Attack
from .errors import Refused
from .network import Network
from .records import Records
from .threat import QueryView, RoundView
from .update import Aggregate, Payload, Update

__all__ = [
    "AggregateRoundView",
    "BroadcastRoundView",
    "ObservedView",
    "RoundObserver",
    "UpdateRoundView",
    "one_site",
]


@dataclass(frozen=True, eq=False)
class BroadcastRoundView(RoundView):
    """What a curious site sees of a round in which it takes part, and what it can compute with.

    ``network`` evaluates a model at any parameters and buffers.  ``candidates`` are the records in question, and ``of``
    the site from whose pools they come: its name -> their places ``(n_k,)`` among the candidates.
    """

    network: Network
    candidates: Records
    of: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class UpdateRoundView(BroadcastRoundView):
    """What a curious server sees: besides, every update of the round, by site.

    Updates are as they arrived: after the site halves of all defences (clipped, noised), decoded, and admitted.
    """

    updates: Mapping[str, Update]


@dataclass(frozen=True, eq=False)
class AggregateRoundView(BroadcastRoundView):
    """What a curious server sees where updates are masked: the merged one; None in a round that was aborted."""

    aggregate: Aggregate | None


@dataclass(frozen=True, eq=False)
class ObservedView(QueryView):
    """After the last round: the released model's answers, and of whom the memory may be judged.

    ``rows (n,)`` are the places of ``candidates`` among those of the rounds: records of sites whose work is not in the
    model are left out, because none of their records are members.
    """

    rows: Tensor = field(kw_only=True)


if TYPE_CHECKING:
    Observed = TypeVar("Observed", bound=BroadcastRoundView, default=Any)
else:  # as in core/threat.py
    Observed = TypeVar("Observed", bound=BroadcastRoundView)
"""The view of a round that an adversary watches."""


@dataclass(frozen=True)
class RoundObserver(Attack[ObservedView], ABC, Generic[Observed]):
    """An adversary that watches the training."""

    needs: ClassVar[type[ObservedView]] = ObservedView

    @property
    @abstractmethod
    def observes(self) -> type[Observed]:
        """The smallest view of a round that it can work with; a subclass sets it as a class attribute."""

    def seat(self, sizes: Mapping[str, int]) -> str | None:
        """The site whose view it has; None for the server.  ``sizes`` are those of the honest sites."""
        return None

    @abstractmethod
    def targets(self, sizes: Mapping[str, int]) -> tuple[str, ...]:
        """The sites whose records it targets, of the honest ones with these numbers of training records."""

    @abstractmethod
    def observe(self, memory: Payload, view: Observed) -> Payload:
        """Its statistics after the round that ``view`` shows; ``memory`` is empty before the first one it sees."""


def one_site(name: str, sizes: Mapping[str, int]) -> str:
    """``name``, refused unless it is one of the honest sites.

    Raises Refused: ``name`` is not an honest site.
    """
    if name not in sizes:
        raise Refused(f"{name!r} is no honest site", remedy=f"use one of {', '.join(sorted(sizes)[:8])}", where="site")
    return name
