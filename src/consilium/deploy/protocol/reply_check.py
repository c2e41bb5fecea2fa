"""The server's side of one round's answers: which site may send what, once, and until when.

A sender is identified by the node whose key signed the connection, never by the message; the binding of node to
site was made at registration.  An answer counts if its node is registered, its site was asked in this round, it is of
this study and round, names its own site and the weight that the server gave it, comes in time, and is the first one.
Everything else is rejected with its sender's name, and the round continues.  The content of an update is checked after
this, where the simulation checks it too: `federate.round.ServerHalf`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from consilium.core.errors import Refused
from consilium.core.update import Update
from consilium.federate.round.weights import check_weight

from .messages import Context, decode_refusal, decode_update, kind_of

__all__ = ["Reception", "RejectedReply"]

_MOST_MESSAGES = 8
"""Of one sender in one round; further messages are neither read nor listed."""


@dataclass(frozen=True)
class RejectedReply:
    """A message that was rejected: from whom (a site, or ``node 7``), which one of theirs, and why."""

    sender: str
    number: int
    reason: str


@dataclass(eq=False)
class Reception:
    """The answers of one round: of the sites of ``cohort``; ``nodes`` maps a node to its site.

    ``context`` names study and round; ``weights`` are those that the server worked out; ``deadline`` is on the clock of
    the ``at`` of :meth:`take`.  ``updates`` holds what was admitted, in the order of arrival.
    """

    cohort: Sequence[str]
    nodes: Mapping[int, str]
    context: Context
    weights: Mapping[str, float] = field(default_factory=dict)
    deadline: float = math.inf
    updates: dict[str, Update] = field(default_factory=dict, init=False)
    rejections: list[RejectedReply] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._nonces: dict[str, str] = {}
        self._came: dict[str, int] = {}

    def take(self, node: int, data: bytes, at: float) -> bool:
        """Admit or reject the message ``data`` received from ``node`` at ``at``; True if it was admitted."""
        sender = self.nodes.get(node, f"node {node}")
        self._came[sender] = min(self._came.get(sender, 0), _MOST_MESSAGES) + 1
        if self._came[sender] > _MOST_MESSAGES:
            return False
        try:
            self.updates[sender] = self._admitted(node, data, at)
        except Refused as error:
            self.rejections.append(RejectedReply(sender, self._came[sender], error.reason))
            return False
        return True

    def waiting(self) -> tuple[str, ...]:
        """The sites of the cohort that have sent nothing, in its order."""
        return tuple(site for site in self.cohort if site not in self._came)

    def refused(self) -> dict[str, str]:
        """The reason of each rejected message, by sender.

        A site is listed under its own name only if nothing of it was admitted; a message beside an admitted update is
        listed as ``site-1 (message 2)``.
        """
        reasons: dict[str, str] = {}
        for one in self.rejections:
            if one.sender in self.updates:
                reasons[f"{one.sender} (message {one.number})"] = one.reason
            else:
                reasons[one.sender] = f"{reasons[one.sender]}; {one.reason}" if one.sender in reasons else one.reason
        return reasons

    def _admitted(self, node: int, data: bytes, at: float) -> Update:
        if node not in self.nodes:
            raise Refused("is not registered")
        site = self.nodes[node]
        if site not in self.cohort:
            raise Refused("is not in this round's cohort")
        if at > self.deadline:
            raise Refused(f"answered {at - self.deadline:.1f} s after the deadline")
        if kind_of(data, self.context.bounds) == "refusal":
            raise Refused(f"refused: {decode_refusal(data, Context(self.context.study)).error().reason}")
        sealed = decode_update(data, self.context)
        sealed.update.check_sender(site, sealed.update.round)
        if site in self.updates:
            copy = sealed.nonce == self._nonces[site]
            raise Refused(f"{'sent the same update again' if copy else 'sent a second update'}; the first stays")
        check_weight(site, sealed.update.weight, self.weights)
        self._nonces[site] = sealed.nonce
        return sealed.update
