"""The gateway's server: it accepts connections, reads a head, checks its signature, forwards the request to Flower.

    unknown client ---TLS, one head---> signature ---> node: bodies, answers, one connection to Flower each

The connection of an unknown client costs one head and OpenSSL's buffers; its body is not read.  Without keys (loopback
only) a client that sends a valid head is admitted, and a party is an address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import time
from collections.abc import Hashable, Sequence

from .connection_limits import Crowd, Notes, Share
from .head import CALLS, OPEN_CALLS, ConnectionLimits, Denied, Head, read_head
from .node_authentication import Signatures
from .sender import check_sender
from .stream import ByteStream, Overlong

__all__ = ["Gateway", "Listener"]

_PIECE = 256 * 1024
_LAST_WORD, _HEAR_OUT = 5.0, 2.0
_WORDS = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 408: "Request Timeout", 412: "Precondition Failed",
    413: "Content Too Large", 431: "Head Too Large",
}  # fmt: skip
_log = logging.getLogger("consilium.gateway")


class Listener:
    """The running gateway: its listening sockets and the connections that it serves."""

    def __init__(self, door: Gateway, sockets: Sequence[socket.socket]) -> None:
        self.sockets = tuple(sockets)
        self._door = door
        self._guests: set[asyncio.Task[None]] = set()
        self._accepting = [asyncio.create_task(self._accept(one)) for one in sockets]

    async def serve_forever(self) -> None:
        """Until it is closed."""
        await asyncio.gather(*self._accepting)

    def close(self) -> None:
        """Accept no more connections, and close those that are open."""
        for task in (*self._accepting, *self._guests):
            task.cancel()
        for one in self.sockets:
            one.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError:  # the other end has gone, or there are no descriptors left
                await asyncio.sleep(0.05)
                continue
            guest = loop.create_task(self._door.serve(connection, str(address[0])))
            self._guests.add(guest)
            guest.add_done_callback(self._guests.discard)
            await asyncio.sleep(0)  # many waiting clients do not delay the admitted ones


class Gateway:
    """Listens on one address and passes what may pass to the link at ``upstream``.

    ``signatures`` holds the nodes' keys; None, on the loopback only, admits clients without a key.
    """

    def __init__(
        self,
        upstream: tuple[str, int],
        *,
        tls: ssl.SSLContext | None,
        trust: ssl.SSLContext | None,
        limits: ConnectionLimits | None = None,
        signatures: Signatures | None = None,
    ) -> None:
        self.upstream, self.tls, self.trust, self.signatures = upstream, tls, trust, signatures
        self.limits = limits or ConnectionLimits()
        self.calls = CALLS if tls is not None else OPEN_CALLS
        self._strangers, self._inside = Crowd(self.limits.strangers), Crowd(self.limits.connections)
        self._shares: dict[Hashable, Share] = {}
        self._notes = Notes(_log.warning, time.monotonic)

    async def listen(self, host: str, port: int) -> Listener:
        """Start listening."""
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets = [
            socket.create_server(address[:2], family=family, backlog=512)
            for family, address in dict.fromkeys((info[0], info[4]) for info in infos)
        ]
        for one in sockets:
            one.setblocking(False)
        return Listener(self, sockets)

    async def serve(self, connection: socket.socket, address: str) -> None:
        """One connection from its first byte to its last."""
        stream, link = ByteStream(connection), _Link(self.upstream, self.trust, self.limits)
        stay = _ServedConnection(stream)
        self._strangers.enter(address, stay, stay.end)
        try:
            await self._guest(stay, link, address)
        except Denied as denied:
            self._notes.note(str(denied.status), f"{address} refused: {denied.status} ({denied.reason})")
            await _answer(stream, denied)
        except (TimeoutError, EOFError, OSError):
            pass  # the client or Flower's server disconnected: the client repeats its request
        finally:
            for crowd in (self._strangers, self._inside):
                crowd.leave(stay)
            link.close()
            stay.over()

    async def _guest(self, stay: _ServedConnection, link: _Link, address: str) -> None:
        stream, head = stay.stream, await self._first(stay.stream)
        if head is not None:
            party = self._party(head, address)
            self._strangers.leave(stay)
            self._inside.enter(party, stay, stay.end)
            stream.trust()
        while head is not None:
            await self._pass(stream, link, head, self._share(party))
            head = await asyncio.wait_for(self._head(stream), self.limits.seconds)
            if head is not None and self._party(head, address) != party:
                raise Denied(401, "another node's signature in the same connection")
        await stream.finish(_LAST_WORD)

    async def _first(self, stream: ByteStream) -> Head | None:
        """TLS and the first head of an unknown client; None if it sends nothing."""
        try:
            async with asyncio.timeout(self.limits.greeting):
                await stream.greet(self.tls)
                return await self._head(stream)
        except TimeoutError:
            raise Denied(408, f"no request in {self.limits.greeting:.0f} s") from None

    def _party(self, head: Head, address: str) -> Hashable:
        return address if self.signatures is None else self.signatures.node(head)

    def _share(self, party: Hashable) -> Share:
        return self._shares.setdefault(party, Share(self.limits.share))

    async def _head(self, stream: ByteStream) -> Head | None:
        """The next request of a connection; None at its end."""
        try:
            raw = await stream.until(b"\r\n\r\n", self.limits.head)
        except Overlong:
            raise Denied(431, "its head is too long") from None
        except EOFError:
            raise Denied(400, "its head is cut off") from None
        return read_head(raw, self.limits, self.calls) if raw else None

    async def _pass(self, stream: ByteStream, link: _Link, head: Head, share: Share) -> None:
        """One request to the link, and its answer back."""
        async with share.hold(head.length):
            body = await asyncio.wait_for(stream.exactly(head.length), self.limits.patience(head.length))
            if head.call.endswith("/push-messages"):
                check_sender(body)
            start, length = await link.ask(head, body)
            del body
        async with share.hold(length):
            answer = start + await link.rest(length)
            await asyncio.wait_for(stream.write(answer), self.limits.patience(len(answer)))


class _ServedConnection:
    """A connection and the task that serves it, which end together."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream, self._task = stream, asyncio.current_task()

    def end(self) -> None:
        """At once, wherever it is."""
        if self._task is not None:
            self._task.cancel()
        self.over()

    def over(self) -> None:
        """Give everything back, the task too: its traceback holds what it served, and cycles are collected late."""
        self._task = None
        self.stream.close()


class _Link:
    """One connection to the link behind, for one connection before the door; never shared."""

    def __init__(self, address: tuple[str, int], trust: ssl.SSLContext | None, limits: ConnectionLimits) -> None:
        self.address, self.trust, self.limits = address, trust, limits
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, head: Head, body: bytearray) -> tuple[bytes, int]:
        """Pass one request on; the head of its answer, and how many bytes follow."""
        try:
            return await asyncio.wait_for(self._ask(head, body), self.limits.link)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            self.close()
            raise Denied(503, "the link does not answer") from None

    async def rest(self, length: int) -> bytes:
        """The body of the answer whose head has been read."""
        assert self.streams is not None
        try:
            return await asyncio.wait_for(self.streams[0].readexactly(length), self.limits.link)
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            self.close()
            raise Denied(503, "the link does not answer") from None

    async def _ask(self, head: Head, body: bytearray) -> tuple[bytes, int]:
        if self.streams is None or self.streams[0].at_eof():
            self.close()
            self.streams = await asyncio.open_connection(*self.address, ssl=self.trust, limit=65_536)
        reader, writer = self.streams
        lines = [f"POST {head.call} HTTP/1.1".encode(), b"host: link", b"content-length: %d" % len(body)]
        lines += [name + b": " + value for name, value in head.fields]
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        with memoryview(body) as view:
            for at in range(0, len(view), _PIECE):
                writer.write(bytes(view[at : at + _PIECE]))
                await writer.drain()
        await writer.drain()
        return await _reply(reader)

    def close(self) -> None:
        """Give the connection back."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def _reply(reader: asyncio.StreamReader) -> tuple[bytes, int]:
    """The head of one answer of the link, which is trusted to frame it by its length."""
    raw = await reader.readuntil(b"\r\n\r\n")
    match = re.search(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", raw, re.IGNORECASE)
    if match is None or re.search(rb"\r\ntransfer-encoding:", raw, re.IGNORECASE):
        raise OSError("an answer without length")
    return raw, int(match[1])


async def _answer(stream: ByteStream, denied: Denied) -> None:
    line = f"HTTP/1.1 {denied.status} {_WORDS.get(denied.status, 'Unavailable')}"
    text = f"{line}\r\ncontent-length: {len(denied.body)}\r\nconnection: close\r\n\r\n"
    if stream.ready:
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(stream.write(text.encode() + denied.body), _LAST_WORD)
            await stream.finish(_HEAR_OUT)
