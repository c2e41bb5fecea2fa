"""What a server's message requests of a site: local work, an assessment, or both in one message."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.algorithm import Broadcast, Server
from consilium.core.errors import Refused

from . import messages as wire

__all__ = ["Question"]


@dataclass(frozen=True)
class Question:
    """What an ``inbox`` requests of a site: to work from its ``broadcast``, to judge its ``model``, or both.

    With both the model is that of the broadcast, and travels once.
    """

    inbox: Broadcast | Server | tuple[Server, Broadcast]

    @classmethod
    def of(cls, inbox: object) -> Question:
        """The question in ``inbox``; Refused for an inbox that no message can carry.

        Raises Refused: an inbox that no message can carry.
        """
        match inbox:
            case Broadcast():
                return cls(inbox)
            case Server():
                return cls(inbox)
            case (Server() as model, Broadcast() as broadcast):
                return cls((model, broadcast))
        raise Refused(
            f"the engine flower cannot send a {type(inbox).__name__}", remedy="simulate this study with `run`"
        )

    @property
    def broadcast(self) -> Broadcast | None:
        """What the site works from; None where it only judges."""
        sent = self.inbox[1] if isinstance(self.inbox, tuple) else self.inbox
        return sent if isinstance(sent, Broadcast) else None

    @property
    def model(self) -> Server | None:
        """What the site judges; None where it only works."""
        sent = self.inbox[0] if isinstance(self.inbox, tuple) else self.inbox
        return sent if isinstance(sent, Server) else None

    @property
    def round(self) -> int:
        """The round that the message names."""
        return (self.inbox[1] if isinstance(self.inbox, tuple) else self.inbox).round

    def encoded(self, digest: str) -> dict[str, bytes]:
        """The parts of the message that carries it."""
        match self.inbox:
            case Server() as model:
                return {"question": wire.encode_model(model, digest)}
            case Broadcast() as broadcast:
                return {"question": wire.encode_broadcast(broadcast, digest)}
            case (_, broadcast):
                return {"question": wire.encode_broadcast(broadcast, digest), "assess": b"-"}
