"""A federated algorithm as pure functions over flat vectors; it never sees a batch.

start -> [ broadcast -> (at each site: begin, step ..., finish) -> merge -> advance ] -> model_for
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from .entry import Entry
from .gradient import Gradient, Schedule
from .network import Network
from .update import Aggregate, Payload

__all__ = ["Algorithm", "AlgorithmState", "Broadcast", "Server", "Work"]


@dataclass(frozen=True, eq=False)
class Broadcast:
    """What the server sends in ``round``: parameters ``(d,)``, buffers ``(b,)``, and whatever the algorithm adds."""

    round: int
    params: Tensor
    buffers: Tensor
    extra: Payload = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AlgorithmState:
    """State that never leaves a site: control variates, personal layers, residuals."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Server:
    """The server's state after ``round`` rounds; ``population`` sites exist, of whom a round sees a cohort."""

    round: int
    params: Tensor
    buffers: Tensor
    memory: Payload = field(default_factory=dict)
    population: int = 1


@dataclass(frozen=True, eq=False)
class Work:
    """A site's state between two local steps: ``steps`` of ``planned`` are done; the next gradient is at ``params``."""

    params: Tensor
    buffers: Tensor
    steps: int = 0
    planned: int = 0
    memory: Payload = field(default_factory=dict)


@dataclass(frozen=True)
class Algorithm(Entry, ABC):
    """Pure functions; state is explicit.

    The usual start, broadcast and release are written here once; an algorithm that keeps control variates or personal
    layers states its own.  begin, step and finish use torch operations on flat tensors and branch on ``steps`` and
    ``planned`` alone, so that an engine may run them for many sites at once.

    ``weights`` is the site's weight in its paper: its number of records, or one.  ``personal`` says that
    ``model_for`` differs between sites, ``reads_planned`` that ``step`` depends on ``Work.planned``.
    """

    weights: ClassVar[Literal["records", "uniform"]] = "records"
    personal: ClassVar[bool] = False
    reads_planned: ClassVar[bool] = False

    def bound(self, network: Network) -> Algorithm:
        """This algorithm adapted to the layers of ``network``.  Default: self."""
        return self

    @abstractmethod
    def schedule(self, schedule: Schedule) -> Schedule:
        """The local work that this algorithm does for the study's ``schedule`` (FedSGD: one step on all records)."""

    def start(self, network: Network, population: int) -> Server:
        """The state before the first round, for ``population`` sites."""
        return Server(0, *network.start(), population=population)

    def broadcast(self, server: Server) -> Broadcast:
        """What every sampled site receives."""
        return Broadcast(server.round + 1, server.params, server.buffers)

    @abstractmethod
    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        """A site's state before the first of ``steps`` local steps."""

    @abstractmethod
    def step(self, work: Work, gradient: Gradient) -> Work:
        """One local step along ``gradient``."""

    @abstractmethod
    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        """The payload that the site sends, and the state that it keeps."""

    def expects(self, server: Server) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of what every update must hold, no more and no less."""
        return {"delta": tuple(server.params.shape), "buffers": tuple(server.buffers.shape)}

    def check(self, payload: Payload, steps: int) -> None:
        """Refuse a payload that ``steps`` local steps cannot produce.  Default: accept."""

    @abstractmethod
    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """The state after the round whose merged updates are ``aggregate``."""

    def model_for(self, server: Server, state: AlgorithmState | None) -> tuple[Tensor, Tensor] | None:
        """Parameters and buffers released to everyone (``state`` None) or to one site; None if there is none."""
        return server.params, server.buffers
