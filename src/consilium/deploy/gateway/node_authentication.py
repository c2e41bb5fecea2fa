"""Which node has signed a request: known from its head, before a byte of its body is read.

    flwr-public-key   the node's key, PEM, in base64        must be one that the operator has registered
    flwr-timestamp    the time of the call, ISO 8601        within Flower's window: 5 s ahead to 305 s behind
    flwr-signature    ECDSA with SHA-256 over that text     must be the key's, and not have been seen before

Flower signs the time alone, so an intercepted signature would authorise any call of its node for five minutes.  Each is
therefore accepted once: the gateway stores (key, r), where r is the half of an ECDSA signature that cannot be changed
without the key; (r, n - s) is the same signature.  It stores the latest of each node, and refuses signatures older than
the oldest that it stores, like the anti-replay window of IPsec.

Source: flwr 1.41.0, flwr.superlink.routers.fleet.node_auth; RFC 4303, section 3.4.3 (anti-replay window).
"""

from __future__ import annotations

import heapq
import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .head import Denied, Head

__all__ = ["Signatures"]

_KEY, _TIME, _SIGNATURE = b"flwr-public-key", b"flwr-timestamp", b"flwr-signature"
_AHEAD, _BEHIND = 5.0, 305.0
_MOST = 16_384
"""Signatures of one node that are remembered: more than it makes in the seconds in which two calls may overtake."""
_UNKNOWN = json.dumps({"code": 2004, "detail": "SuperNode could not be activated."}).encode()
"""Flower's answer to a node whose key is not registered; the node logs it and ends."""


@dataclass
class _Window:
    """The signatures of one node that have been used."""

    floor: float = 0.0
    times: list[tuple[float, int]] = field(default_factory=list)
    used: set[int] = field(default_factory=set)

    def enter(self, moment: float, r: int) -> bool:
        """True the first time."""
        if moment <= self.floor or r in self.used:
            return False
        heapq.heappush(self.times, (moment, r))
        self.used.add(r)
        if len(self.times) > _MOST:
            self.floor, oldest = heapq.heappop(self.times)
            self.used.discard(oldest)
        return True


class Signatures:
    """The registered nodes' keys, PEM each, and which of their signatures have been used."""

    def __init__(self, nodes: Iterable[bytes], clock: Callable[[], float] = time.time) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        self._nodes: dict[bytes, tuple[Any, _Window]] = {
            pem.strip(): (load_pem_public_key(pem), _Window()) for pem in nodes
        }
        self._clock = clock

    def node(self, head: Head) -> bytes:
        """The key whose node has signed ``head``; raises :class:`Denied`.

        Raises Denied: no registered key signed the head, or the signature was used before.
        """
        values = [[value for name, value in head.fields if name == wanted] for wanted in (_KEY, _TIME, _SIGNATURE)]
        if any(len(value) != 1 for value in values):
            raise Denied(401, "it is not signed by a node")
        pem, stamp, signature = _decoded(values[0][0]).strip(), values[1][0], _decoded(values[2][0])
        if pem not in self._nodes:
            activates = head.call.endswith("/activate-node")
            raise Denied(412 if activates else 401, "its key is not registered", _UNKNOWN if activates else b"")
        key, window = self._nodes[pem]
        moment, r = self._moment(stamp), _r(signature)
        _verify(key, stamp, signature)
        if not window.enter(moment, r):
            raise Denied(401, "its signature has been used before")
        return pem

    def _moment(self, stamp: bytes) -> float:
        try:
            signed = datetime.fromisoformat(stamp.decode("ascii"))
            moment = signed.timestamp() if signed.tzinfo is not None else float("nan")
        except (ValueError, OverflowError):
            moment = float("nan")
        if not -_AHEAD < self._clock() - moment < _BEHIND:
            raise Denied(401, "its time is not that of this clock, within five minutes")
        return moment


def _decoded(value: bytes) -> bytes:
    try:
        return b64decode(value, validate=True)
    except ValueError:
        raise Denied(401, "its signature is not in base64") from None


def _r(signature: bytes) -> int:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    try:
        return int(decode_dss_signature(signature)[0])
    except ValueError:
        raise Denied(401, "its signature is malformed") from None


def _verify(key: Any, stamp: bytes, signature: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key.verify(signature, stamp, ECDSA(SHA256()))
    except InvalidSignature:
        raise Denied(401, "its signature is not its key's") from None
