"""Whom a reply is from: the node that pushes it, and no other.

Flower compares the key of a request with the node that the request names (PushMessagesRequest.node), and stores its
replies under the node that each of them names (Message.metadata.src_node_id).  The two are never compared, so a node
with a valid key that has got hold of the number of another's message could answer in its place.  Here both are read in
the bytes and must be one.

    PushMessagesRequest {1: Node {1: node_id}, 2: Message {1: Metadata {3: src_node_id}}...}

A field that is there twice could be read in two ways and is refused.

Source: flwr 1.41.0, flwr/proto/fleet.proto, message.proto; Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from .head import Denied

__all__ = ["check_sender"]

_WIDTHS = {1: 8, 5: 4}
"""Bytes of a value by its wire type, where they are fixed."""
_MOST_FIELDS = 64
"""Of one message: a node sends one reply a call; messages with more fields are refused unread."""


def check_sender(body: bytes | bytearray) -> None:
    """Refuse pushed messages that name another sender than the request does; raises :class:`Denied`.

    Raises Denied: a message names another sender.
    """
    request = memoryview(body)
    node = _number(_only(_only(request, 1), 1))
    for number, message in _fields(request):
        if number == 2 and _number(_only(_only(_bytes(message), 1), 3)) != node:
            raise Denied(400, "a message in another node's name")


def _only(message: int | memoryview, wanted: int) -> int | memoryview:
    values = [value for number, value in _fields(_bytes(message)) if number == wanted]
    if len(values) != 1:
        raise Denied(400, "a message that does not name one sender")
    return values[0]


def _bytes(value: int | memoryview) -> memoryview:
    return _malformed() if isinstance(value, int) else value


def _number(value: int | memoryview) -> int:
    return value if isinstance(value, int) else _malformed()


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field: an integer, or the bytes of anything else."""
    at, count = 0, 0
    while at < len(message):
        count += 1
        if count > _MOST_FIELDS:
            _malformed()
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        size, at = (_WIDTHS[kind], at) if kind in _WIDTHS else _varint(message, at) if kind == 2 else _malformed()
        if at + size > len(message):
            _malformed()
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer at ``at``, and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= len(message):
            _malformed()
        value |= (message[at + place] & 0x7F) << (7 * place)
        if message[at + place] < 0x80:
            return (value, at + place + 1) if value < 1 << 64 else _malformed()
    return _malformed()


def _malformed() -> NoReturn:
    raise Denied(400, "a message that is malformed")
