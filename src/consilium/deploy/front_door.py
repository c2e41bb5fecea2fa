"""The front door: the one published port.  It lets the fleet's calls through and nothing else.

Flower serves fleet, control and runtime interfaces on one port, and node keys protect the fleet alone: whoever reaches
the rest can start a run, register a key or fetch a task.  So the link listens on the loopback only, and this door
stands before it: TLS, then one strict reading of each request.

    POST /v1/fleet/WORD HTTP/1.1, WORD one of nine, byte for byte; a Content-Length within the limit; no
    Transfer-Encoding, Upgrade, Expect or Connection tricks; every other request: 403 or 400, and the connection ends

What passes is written anew for the link, so that both ends read the same request (no smuggling).  Needs no torch.

Source: RFC 9112 (HTTP/1.1), sections 3, 5, 6.3 and 11.2 (request smuggling).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from consilium.core.terminal import log_lines

__all__ = ["CALLS", "Denied", "FrontDoor", "Head", "Limits", "main", "read_head"]

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

_OPEN_CALLS = frozenset({"/v1/fleet/register-node", "/v1/fleet/unregister-node"})
"""What a node without a key calls besides: on a loopback without TLS only."""

_LINE = re.compile(rb"([A-Z]{1,16}) (/[a-z0-9/-]{0,100}) HTTP/1\.1\Z")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*([\x20-\x7e]{0,4096}?)[ \t]*\Z")
_FORBIDDEN = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"proxy-connection"})
_HOP = frozenset({b"connection", b"keep-alive", b"host", b"content-length"})
_log = logging.getLogger("consilium.front_door")


@dataclass(frozen=True)
class Limits:
    """Bytes of a request's head and body, seconds to wait for a head, and connections at once.

    A body has the time that it takes at ``rate`` bytes a second besides, and so has an answer: a site on a slow line is
    slow and not cut off.  ``link`` seconds are given to the link behind.
    """

    head: int = 16_384
    body: int = 64 * 1024 * 1024
    seconds: float = 60.0
    rate: float = 16_384.0
    link: float = 300.0
    connections: int = 1024

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
    """A request that may not pass: the status it gets, and why."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(reason)


def read_head(raw: bytes, limits: Limits, calls: frozenset[str] = CALLS) -> Head:
    """The request whose head, up to and with its empty line, is ``raw``; raises :class:`Denied`."""
    lines = raw[:-4].split(b"\r\n")
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise Denied(400, "a line ends in another way than CR LF")
    match = _LINE.match(lines[0])
    if match is None:
        raise Denied(403, "its first line is not that of a call")
    method, path = match[1].decode(), match[2].decode()
    if method != "POST" or path not in calls:
        raise Denied(403, f"{method} {path} is not the fleet's")
    fields = [_field(line) for line in lines[1:]]
    names = [name for name, _ in fields]
    if _FORBIDDEN & set(names):
        raise Denied(400, f"{sorted(_FORBIDDEN & set(names))[0].decode()} is not spoken here")
    if names.count(b"content-length") != 1 or names.count(b"host") != 1:
        raise Denied(400, "needs one Content-Length and one Host")
    _check_connection(fields)
    return Head(path, tuple(f for f in fields if f[0] not in _HOP), _length(dict(fields)[b"content-length"], limits))


def _field(line: bytes) -> tuple[bytes, bytes]:
    match = _FIELD.match(line)
    if match is None:
        raise Denied(400, "a field is malformed")
    return match[1].lower(), match[2]


def _check_connection(fields: list[tuple[bytes, bytes]]) -> None:
    """A Connection field may not name other fields: it would have them dropped on the way."""
    for name, value in fields:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            raise Denied(400, "Connection names fields")


def _length(value: bytes, limits: Limits) -> int:
    if not re.fullmatch(rb"[0-9]{1,12}", value):
        raise Denied(400, "Content-Length is no number")
    if int(value) > limits.body:
        raise Denied(413, f"a body of {int(value)} bytes is more than {limits.body}")
    return int(value)


class FrontDoor:
    """Listens on one address and passes what may pass to the link at ``upstream``."""

    def __init__(
        self,
        upstream: tuple[str, int],
        *,
        tls: ssl.SSLContext | None,
        trust: ssl.SSLContext | None,
        limits: Limits | None = None,
    ) -> None:
        self.upstream, self.tls, self.trust = upstream, tls, trust
        self.limits = limits or Limits()
        self.calls = CALLS if tls is not None else CALLS | _OPEN_CALLS
        self._open = 0

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Start listening."""
        return await asyncio.start_server(
            self._serve,
            host,
            port,
            ssl=self.tls,
            limit=self.limits.head,
            ssl_handshake_timeout=None if self.tls is None else 20,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link: _Link | None = None
        self._open += 1
        try:
            if self._open > self.limits.connections:
                raise Denied(503, "too many connections")
            link = _Link(self.upstream, self.trust, self.limits)
            while (head := await self._head(reader)) is not None:
                body = await asyncio.wait_for(reader.readexactly(head.length), self.limits.patience(head.length))
                answer = await link.ask(head, body)
                writer.write(answer)
                await asyncio.wait_for(writer.drain(), self.limits.patience(len(answer)))
        except Denied as denied:
            _log.warning("%s refused: %s (%s)", _peer(writer), denied.status, denied.reason)
            await _answer(writer, denied)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, OSError):
            pass  # a client that went away, or the link did: the client asks again
        finally:
            self._open -= 1
            if link is not None:
                link.close()
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 5)

    async def _head(self, reader: asyncio.StreamReader) -> Head | None:
        """The next request of a connection; None at its end."""
        try:
            raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.limits.seconds)
        except asyncio.LimitOverrunError:
            raise Denied(431, "its head is too long") from None
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise Denied(400, "its head is cut off") from None
            return None
        return read_head(raw, self.limits, self.calls)


class _Link:
    """One connection to the link behind, for one connection before the door; never shared."""

    def __init__(self, address: tuple[str, int], trust: ssl.SSLContext | None, limits: Limits) -> None:
        self.address, self.trust, self.limits = address, trust, limits
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, head: Head, body: bytes) -> bytes:
        """Pass one request on; the bytes of its answer."""
        try:
            return await asyncio.wait_for(self._ask(head, body), self.limits.link)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            self.close()
            raise Denied(503, "the link does not answer") from None

    async def _ask(self, head: Head, body: bytes) -> bytes:
        if self.streams is None or self.streams[0].at_eof():
            self.close()
            self.streams = await asyncio.open_connection(*self.address, ssl=self.trust, limit=65_536)
        reader, writer = self.streams
        lines = [f"POST {head.call} HTTP/1.1".encode(), b"host: link", b"content-length: %d" % len(body)]
        lines += [name + b": " + value for name, value in head.fields]
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        await writer.drain()
        return await _reply(reader)

    def close(self) -> None:
        """Give the connection back."""
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """One answer of the link, which is trusted to frame it by its length."""
    raw = await reader.readuntil(b"\r\n\r\n")
    match = re.search(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", raw, re.IGNORECASE)
    if match is None or re.search(rb"\r\ntransfer-encoding:", raw, re.IGNORECASE):
        raise OSError("an answer without length")
    return raw + await reader.readexactly(int(match[1]))


async def _answer(writer: asyncio.StreamWriter, denied: Denied) -> None:
    words = {400: "Bad Request", 403: "Forbidden", 413: "Content Too Large", 431: "Head Too Large"}
    line = f"HTTP/1.1 {denied.status} {words.get(denied.status, 'Unavailable')}"
    text = f"{line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
        writer.write(text.encode())
        await asyncio.wait_for(writer.drain(), 5)


def _peer(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return str(name[0]) if name else "somebody"


def main(arguments: list[str] | None = None) -> None:
    """``python -m consilium.deploy.front_door``: listen until told to stop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("listen", "upstream"):
        parser.add_argument(f"--{name}", required=True, metavar="HOST:PORT")
    for name in ("certificate", "key", "ca"):
        parser.add_argument(f"--{name}", type=Path)
    chosen = parser.parse_args(arguments)
    log_lines("%(asctime)s front door: %(message)s")
    tls = trust = None
    if chosen.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(chosen.certificate, chosen.key)
        trust = ssl.create_default_context(cafile=str(chosen.ca))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(FrontDoor(_address(chosen.upstream), tls=tls, trust=trust), _address(chosen.listen)))


async def _run(door: FrontDoor, address: tuple[str, int]) -> None:
    server = await door.listen(*address)
    _log.info("open on %s port %d", *address)
    async with server:
        await server.serve_forever()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    main()
