"""How a server is reached, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from consilium.core.entry import check
from consilium.deploy.gateway import ConnectionLimits

from .processes import parse_address, refuse_insecure

__all__ = ["ServerOptions"]


@dataclass(frozen=True)
class ServerOptions:
    """How a server is reached, and how long it waits: ``deadline`` seconds for an exchange, ``gather`` for the sites.

    ``keys`` is the folder of `consilium keys server`; without it ``insecure`` must be True, on the loopback.  ``ahead``
    messages are kept behind a question, so that a node does not go to sleep.  ``door`` bounds what the published port
    takes in.
    """

    address: str
    keys: Path | None
    insecure: bool = False
    deadline: float = 3600.0
    gather: float = 3600.0
    ahead: int = 2
    door: ConnectionLimits = field(default_factory=ConnectionLimits)

    def check(self) -> None:
        """Refuse what others could reach without TLS and keys."""
        host, _ = parse_address(self.address)
        refuse_insecure(host, self.insecure, self.keys is None, "--keys")
        for name in ("deadline", "gather"):
            check(0 < getattr(self, name) < 1e7, name, getattr(self, name), "seconds above 0 and below 1e7")
