"""The strict reading of a request's head.

    POST /v1/fleet/WORD HTTP/1.1, WORD one of ten, byte for byte; a Content-Length within the limit; no
    Transfer-Encoding, Upgrade, Expect or Connection tricks; every other request: 403 or 400, and the connection ends

A request that passes is serialised again for Flower's server, so that both ends read the same request (no smuggling).

Source: RFC 9112 (HTTP/1.1), sections 3, 5, 6.3 and 11.2 (request smuggling).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

__all__ = ["CALLS", "OPEN_CALLS", "ConnectionLimits", "Denied", "Head", "read_head"]

CALLS = frozenset(
    f"/v1/fleet/{word}"
    for word in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "get-fab",
        "push-object",
        "pull-object",
        "confirm-message-received",
    )
)
"""What a node with a key calls.  Registering and unregistering are the operator's, on the loopback."""

OPEN_CALLS = CALLS | {"/v1/fleet/register-node", "/v1/fleet/unregister-node"}
"""What a node without a key calls: on a loopback without TLS only."""

_LINE = re.compile(rb"([A-Z]{1,16}) (/[a-z0-9/-]{0,100}) HTTP/1\.1\Z")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\x20-\x7e]{0,4096}?)[ \t]*\Z")
_FORBIDDEN = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"proxy-connection"})
_HOP = frozenset({b"connection", b"keep-alive", b"host", b"content-length"})


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection and a party may have: sizes in bytes, times in seconds, connections by number.

    ``head`` and ``body`` bound one request.  Until a node's signature is verified, a connection is unknown: at most
    ``strangers`` of those are open, each has ``greeting`` seconds for TLS and its first head, and none of their
    bodies is read.  After that there are at most ``connections``, each has ``seconds`` for its next head, and the
    bodies and answers of one node (without keys: of one address) are at most ``share`` bytes at once.

    A body has the time that it takes at ``rate`` bytes a second besides, and so has an answer: a site on a slow line is
    slow and not cut off.  ``link`` seconds are given to the link behind.
    """

    head: int = 16_384
    body: int = 64 * 1024 * 1024
    seconds: float = 60.0
    rate: float = 16_384.0
    link: float = 300.0
    connections: int = 1024
    strangers: int = 256
    greeting: float = 20.0
    share: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        """Refuse limits that nothing passes, and a share that the largest body does not fit into."""
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} is {getattr(self, field.name)}, and must be above 0")
        if self.share < self.body:
            raise ValueError(f"a body of {self.body} bytes does not fit into a share of {self.share}")

    def patience(self, size: int) -> float:
        """Seconds for ``size`` bytes in either direction."""
        return self.seconds + size / self.rate


@dataclass(frozen=True)
class Head:
    """A request that may pass: its call, the fields that travel on, and the length of its body."""

    call: str
    fields: tuple[tuple[bytes, bytes], ...]
    length: int


class Denied(Exception):
    """A request that may not pass: the status it gets, why, and what is written in its answer."""

    def __init__(self, status: int, reason: str, body: bytes = b"") -> None:
        self.status, self.reason, self.body = status, reason, body
        super().__init__(reason)


def read_head(raw: bytes, limits: ConnectionLimits, calls: frozenset[str] = CALLS) -> Head:
    """The request whose head, up to and with its empty line, is ``raw``; raises :class:`Denied`.

    Raises Denied: the head is malformed, or the call is not of the fleet interface.
    """
    lines = raw[:-4].split(b"\r\n")
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise Denied(400, "a line of the head does not end with CR LF")
    match = _LINE.match(lines[0])
    if match is None:
        raise Denied(403, "the first line is not that of a call of the fleet interface")
    method, path = match[1].decode(), match[2].decode()
    if method != "POST" or path not in calls:
        raise Denied(403, f"{method} {path} is not a call of the fleet interface")
    fields = [_field(line) for line in lines[1:]]
    names = [name for name, _ in fields]
    if _FORBIDDEN & set(names):
        raise Denied(400, f"{sorted(_FORBIDDEN & set(names))[0].decode()} is not supported by this gateway")
    if names.count(b"content-length") != 1 or names.count(b"host") != 1:
        raise Denied(400, "the head needs exactly one Content-Length and one Host")
    _check_connection(fields)
    return Head(path, tuple(f for f in fields if f[0] not in _HOP), _length(dict(fields)[b"content-length"], limits))


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD.match(line)
    if match is None:
        raise Denied(400, "a header field is malformed")
    return match[1].lower(), match[2]


def _check_connection(fields: list[tuple[bytes, bytes]]) -> None:
    """A Connection field may not name other fields: it would have them dropped on the way."""
    for name, value in fields:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            raise Denied(400, "the Connection field names other fields; only keep-alive and close are allowed")


def _length(value: bytes, limits: ConnectionLimits) -> int:
    if not re.fullmatch(rb"[0-9]{1,12}", value):
        raise Denied(400, "Content-Length is not a number")
    if int(value) > limits.body:
        raise Denied(413, f"the body has {int(value)} bytes; at most {limits.body} are allowed")
    return int(value)
