"""What a server's message asks of a site: local work, an assessment, or both in one message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from consilium.core.algorithm import Broadcast, Server
from consilium.core.errors import Refused

from . import messages as wire

__all__ = ["Question"]


@dataclass(frozen=True)
class Question:
    """What an inbox asks of a site: to work from ``broadcast``, to judge ``model``, or both.

    With both the model is that of the broadcast, and travels once.
    """

    broadcast: Broadcast | None = None
    model: Server | None = None

    @classmethod
    def of(cls, inbox: object) -> Question:
        """The question in ``inbox``; Refused for an inbox that no message can carry."""
        match inbox:
            case Broadcast():
                return cls(broadcast=inbox)
            case Server():
                return cls(model=inbox)
            case (Server() as model, Broadcast() as broadcast):
                return cls(broadcast, model)
        raise Refused(
            f"the engine flower cannot send a {type(inbox).__name__}", remedy="simulate this study with `run`"
        )

    @property
    def round(self) -> int:
        """The round that the message names."""
        return cast("Broadcast | Server", self.broadcast or self.model).round

    def encoded(self, digest: str) -> dict[str, bytes]:
        """The parts of a message that say it."""
        if self.broadcast is None:
            return {"question": wire.encode_model(cast(Server, self.model), digest)}
        asked = {"question": wire.encode_broadcast(self.broadcast, digest)}
        return asked if self.model is None else {**asked, "assess": b"-"}
