"""A federated algorithm as pure functions over flat vectors; it never sees a batch.

start -> [ broadcast -> (at each site: begin, step ..., finish) -> merge -> advance ] -> model_for
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .entry import Entry
from .gradient import Gradient, Schedule
from .network import Network
from .update import Aggregate, Payload

__all__ = ["Algorithm", "Broadcast", "Kept", "Server", "Work"]


@dataclass(frozen=True, eq=False)
class Broadcast:
    """What the server sends in ``round``: parameters ``(d,)``, buffers ``(b,)``, and whatever the algorithm adds."""

    round: int
    params: Tensor
    buffers: Tensor
    extra: Payload = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Kept:
    """State that never leaves a site: control variates, personal layers, residuals."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Server:
    """The server's state after ``round`` rounds."""

    round: int
    params: Tensor
    buffers: Tensor
    memory: Payload = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Work:
    """A site's state between two local steps."""

    params: Tensor
    buffers: Tensor
    steps: int = 0
    memory: Payload = field(default_factory=dict)


@dataclass(frozen=True)
class Algorithm(Entry, ABC):
    """Pure functions; state is explicit.

    The usual start, broadcast and release are written here once; an algorithm that keeps control variates or personal
    layers states its own.
    """

    @abstractmethod
    def schedule(self, asked: Schedule) -> Schedule:
        """The local work this algorithm does of what the study asks (FedSGD: one step on everything)."""

    def start(self, network: Network) -> Server:
        """The state before the first round."""
        return Server(0, *network.start())

    def broadcast(self, server: Server) -> Broadcast:
        """What every sampled site receives."""
        return Broadcast(server.round + 1, server.params, server.buffers)

    @abstractmethod
    def begin(self, broadcast: Broadcast, kept: Kept) -> Work:
        """A site's state before its first local step."""

    @abstractmethod
    def step(self, work: Work, gradient: Gradient) -> Work:
        """One local step along ``gradient``."""

    @abstractmethod
    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, Kept]:
        """What the site sends, and what it keeps."""

    @abstractmethod
    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """The state after the round whose merged updates are ``aggregate``."""

    def model_for(self, server: Server, kept: Kept | None) -> tuple[Tensor, Tensor]:
        """Parameters and buffers released to everyone (``kept`` None) or to one site."""
        return server.params, server.buffers
