"""The bytes of one accepted connection, with or without TLS, read only on demand.

asyncio's own streams read ahead, hundreds of kilobytes for each connection, and hand a connection over after the
handshake only.  Here a connection costs only the bytes requested: the kernel holds the rest back (TCP's flow control).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

__all__ = ["ByteStream", "Overlong"]

_SMALL, _LARGE = 16 * 1024, 256 * 1024
"""Bytes of one read: of an unknown client, whose head is small, and of a node."""


class Overlong(Exception):
    """The end of a message was not received within the allowed length."""


class ByteStream:
    """One connection.  Methods are called one at a time, and raise OSError (ssl.SSLError is one) when it is broken."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._loop = connection, asyncio.get_running_loop()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._ahead = bytearray()  # plain bytes received beyond those requested
        self._piece = _SMALL
        self.ready, self.open = False, True

    async def greet(self, context: ssl.SSLContext | None) -> None:
        """TLS, where a ``context`` is given; ``ready`` after that."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self._tls = context.wrap_bio(self._in, self._out, server_side=True)
            while not self._shaken(self._tls):
                await self._flush()
                await self._fill()
            await self._flush()
        self.ready = True

    def trust(self) -> None:
        """Read in large pieces from now on."""
        self._piece = _LARGE

    async def until(self, end: bytes, most: int) -> bytes:
        """The bytes up to and with ``end``; empty if the connection is closed.

        Raises Overlong beyond ``most`` bytes, and EOFError where the connection ends before ``end``.
        """
        searched = 0
        while (at := self._ahead.find(end, max(0, searched - len(end)))) < 0:
            searched = len(self._ahead)
            if searched > most:
                raise Overlong
            data = await self._more()
            if not data:
                if self._ahead:
                    raise EOFError
                return b""
            self._ahead += data
        if at + len(end) > most:
            raise Overlong
        return self._take(at + len(end))

    async def exactly(self, size: int) -> bytearray:
        """The next ``size`` bytes, allocated as they arrive; raises EOFError where the connection ends before."""
        buffer = bytearray(self._take(size))
        while len(buffer) < size:
            data = await self._more(size - len(buffer))
            if not data:
                raise EOFError
            buffer += data
        return buffer

    async def write(self, data: bytes | bytearray) -> None:
        """Send ``data``, encrypted a piece at a time."""
        view = memoryview(data)
        for at in range(0, len(view), _LARGE):
            piece = view[at : at + _LARGE]
            if self._tls is None:
                await self._loop.sock_sendall(self._check(), piece)
            else:
                self._tls.write(piece)
                await self._flush()

    async def finish(self, seconds: float) -> None:
        """Close for writing, then read for ``seconds``: otherwise the other end may lose the last answer."""
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(seconds):
                if self._tls is not None:
                    with contextlib.suppress(ssl.SSLError):  # the other end's TLS shutdown is not awaited
                        self._tls.unwrap()
                    await self._flush()
                self._socket.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(self._check(), _SMALL):
                    pass

    def close(self) -> None:
        """Give the connection back at once; what waits on it ends with an error."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._tls = None  # freed at once: garbage collection of cycles is too slow for many connections
            self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._ahead.clear()

    def _check(self) -> socket.socket:
        if not self.open:
            raise ConnectionAbortedError
        return self._socket

    def _take(self, size: int) -> bytes:
        piece = bytes(self._ahead[:size])
        del self._ahead[:size]
        return piece

    async def _more(self, most: int = _LARGE) -> bytes:
        """Some plain bytes; empty at the end."""
        most = min(most, self._piece)
        if self._tls is None:
            return await self._loop.sock_recv(self._check(), most)
        while True:
            try:
                data = self._tls.read(most)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                return data

    async def _fill(self) -> bool:
        """Bytes from the network; False at its end."""
        data = await self._loop.sock_recv(self._check(), self._piece)
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
        return bool(data)

    async def _flush(self) -> None:
        if self._out.pending:
            await self._loop.sock_sendall(self._check(), self._out.read())

    def _shaken(self, tls: ssl.SSLObject) -> bool:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True
