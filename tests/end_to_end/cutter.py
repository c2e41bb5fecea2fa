"""A network between one site and the gateway that can be cut: TCP is passed on byte for byte until somebody cuts.

    reset     open connections are reset, and so is every new one                   a router that restarts
    silent    what comes is swallowed, and nothing comes back; a connection that was cut or made meanwhile stays
              dead for ever, as behind a firewall that lost its table                a black hole

TLS passes through it: it has no key and reads nothing.
"""

import asyncio
import contextlib
import socket
import struct
import threading

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Cutter:
    """Listens on a port of the loopback and passes to ``upstream``; ``felt`` counts resets and swallowed bytes."""

    def __init__(self, upstream):
        self.upstream, self.how, self.felt = upstream, None, 0
        self._lines = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self, how):
        """From now on, until healed: ``reset`` or ``silent``."""
        self._do(self._cut(how))

    def heal(self):
        """New connections pass again."""
        self.how = None

    def close(self):
        self._server.close()
        self._do(self._cut("reset"))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(300)

    async def _cut(self, how):
        self.how = how
        for line in list(self._lines):
            line.cut(how)
        await asyncio.sleep(0.05)

    async def _serve(self, reader, writer):
        line = _Line(self, writer)
        self._lines.add(line)
        try:
            if self.how is not None:
                line.cut(self.how)
            await line.carry(reader)
        finally:
            self._lines.discard(line)


class _Line:
    """One connection and the one behind it."""

    def __init__(self, cutter, writer):
        self.cutter, self.ends, self.dead, self.over = cutter, [writer], False, asyncio.Event()

    def cut(self, how):
        self.dead = True
        if how == "reset":
            self.cutter.felt += 1
            self.reset()

    def reset(self):
        for writer in self.ends:
            with contextlib.suppress(OSError, AttributeError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()
        self.over.set()

    async def carry(self, reader):
        pumps = []
        if self.dead:
            pumps.append(asyncio.create_task(self._pump(reader, None)))
        else:
            try:
                behind, writer = await asyncio.open_connection(*self.cutter.upstream)
            except OSError:  # nobody is at home: as without a cutter
                return self.reset()
            pumps.append(asyncio.create_task(self._pump(reader, writer)))
            pumps.append(asyncio.create_task(self._pump(behind, self.ends[0])))
            self.ends.append(writer)
        await self.over.wait()
        for pump in pumps:
            pump.cancel()
        for writer in self.ends:
            writer.close()
        return None

    async def _pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.dead:
                    self.cutter.felt += len(data)
                else:
                    writer.write(data)
                    await writer.drain()
        if not self.dead:  # a dead line says nothing, not even that it is over
            self.over.set()
