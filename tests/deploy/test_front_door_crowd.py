"""A door as its own process, with TLS and keys, before a crowd that has none: it stays small, and a node gets in."""

import asyncio
import contextlib
import resource
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consilium.deploy.gateway import ConnectionLimits
from consilium.deploy.transport.processes import free_port

MIB = 2**20
MOST_GROWTH = 64 * MIB
"""Of the door, for any number of connections without a key."""
HEAD = b"POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n"


class Door:
    """The process, the link behind it (which counts), and what speaks to it."""

    def __init__(self, process, port, trust, heard):
        self.process, self.port, self.trust, self.heard = process, port, trust, heard

    def peak(self):
        """Bytes of memory that it had at most since it began."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmHWM:")[1].split()[0]) * 1024

    async def connect(self, *, tls=True):
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust if tls else None)

    async def call(self, lines, body):
        """The status of one call, made in a connection of its own."""
        reader, writer = await self.connect()
        writer.write(HEAD % (len(body), lines) + body)
        try:
            return int((await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).split()[1])
        finally:
            writer.close()

    async def push(self, lines, most):
        """Push a body of 64 MiB until the door has enough or ``most`` bytes are through; how many the door took."""
        reader, writer = await self.connect()
        taken = 0
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(HEAD % (64 * MIB, lines))
            while taken < most:
                writer.write(b"x" * 65536)
                await asyncio.wait_for(writer.drain(), 3)
                taken += 65536
            await asyncio.wait_for(reader.read(100), 1)
        writer.transport.abort()
        return taken


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    pytest.importorskip("cryptography", reason="the extra flower is not installed")
    from consilium.deploy.transport.certificates import make_server_keys

    return make_server_keys(tmp_path_factory.mktemp("keys"), ["127.0.0.1"])


@pytest.fixture
def before(keys, new_node, tmp_path):
    """Runs ``work(door, node)`` with a door that knows ``node``; a link that answers all stands behind it."""

    def run(work):
        return asyncio.run(_before(work, keys, new_node(), tmp_path))

    return run


async def _before(work, keys, node, folder):
    heard = []

    async def link(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heard.append(len(await reader.readexactly(int(head.lower().split(b"length: ")[1].split(b"\r")[0]))))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()

    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(keys.certificate, keys.key)
    behind = await asyncio.start_server(link, "127.0.0.1", 0, ssl=served)
    port, nodes = free_port(), folder / "nodes.pem"
    nodes.write_bytes(node.pem)
    words = ["--listen", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{behind.sockets[0].getsockname()[1]}"]
    words += ["--certificate", keys.certificate, "--key", keys.key, "--ca", keys.ca, "--nodes", nodes]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "consilium.deploy.gateway", *map(str, words)], stderr=log)
    try:
        while not (folder / "log").read_text():
            assert process.poll() is None
            await asyncio.sleep(0.05)
        return await work(Door(process, port, ssl.create_default_context(cafile=keys.ca), heard), node)
    finally:
        process.kill()
        process.wait()
        behind.close()


def test_bodies_of_strangers_are_not_taken_in(before, new_node):
    """40 connections without a key, and 40 with a key of their own, each with 60 of 64 MiB."""

    async def work(door, node):
        stranger = new_node()
        small = door.peak()
        lines = [b""] * 40 + [stranger.lines(time.time()) for _ in range(40)]
        pushing = asyncio.gather(*(door.push(one, 60 * MIB) for one in lines))
        status = await door.call(node.lines(time.time()), b"y" * 1000)
        taken = await pushing
        return status, door.peak() - small, max(taken), door.heard

    status, growth, taken, heard = before(work)
    assert status == 200
    assert heard == [1000], "the node's alone reached the link"
    assert growth < MOST_GROWTH, f"{growth / MIB:.0f} MiB"
    assert taken < 60 * MIB


def test_a_node_gets_in_while_more_connections_than_there_are_places_are_held(before):
    """All from its own address, as behind one router: silent, half a ClientHello, or TLS and most of a long head."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = min(1100, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))

    async def hold(door, number):
        with contextlib.suppress(OSError):
            _, writer = await door.connect(tls=number % 4 == 0)
            writer.write(
                HEAD[:40] + b"x" * 15_000 if number % 4 == 0 else b"\x16\x03\x01\x02\x00\x01" if number % 2 else b""
            )
            return writer
        return None

    async def work(door, node):
        small = door.peak()
        held = []
        for first in range(0, many, 50):
            held += await asyncio.gather(*(hold(door, number) for number in range(first, min(first + 50, many))))
        statuses = [await door.call(node.lines(time.time()), b"y") for _ in range(5)]
        folder = Path(f"/proc/{door.process.pid}/fd")
        places, growth = len(list(folder.iterdir())), door.peak() - small
        for writer in held:
            if writer is not None:
                writer.transport.abort()
        return statuses, places, growth

    try:
        statuses, places, growth = before(work)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert statuses == [200] * 5
    assert places < ConnectionLimits().strangers + 50
    assert growth < MOST_GROWTH, f"{growth / MIB:.0f} MiB"


def test_a_request_that_is_sent_again_from_elsewhere_is_refused(before):
    async def work(door, node):
        lines = node.lines(time.time())
        statuses = [await door.call(lines, body) for body in (b"mine", b"mine", b"another's")]
        return statuses, door.heard

    assert before(work) == ([200, 401, 401], [4])
