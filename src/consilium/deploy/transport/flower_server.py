"""The processes behind a published address: Flower's SuperLink on the loopback, and the gateway before it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from consilium.core.errors import Failed
from consilium.core.files import read_bytes
from consilium.monitor.stragglers import Lateness

from .certificates import ServerKeys
from .flower import Caller
from .flower_internals import ServerSeat, register_sites, start_run
from .processes import Child, free_port, new_secret, parse_address, program, wait_open
from .server_options import ServerOptions

__all__ = ["Link", "linked"]

_LEAST = 64 * 1024
"""Bytes that must be left on the server's disk while it waits for answers."""


class Link:
    """The processes behind a published address."""

    def __init__(self, folder: Path, options: ServerOptions, keys: ServerKeys | None) -> None:
        self.folder, self.options, self.keys = folder, options, keys
        self.ca = None if keys is None else read_bytes(keys.ca, 1 << 20)
        self.children: list[Child] = []
        self.secret = b""
        self.address = ""

    def start(self) -> None:
        """Start Flower's server; no site can connect yet."""
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        secret_file = self.folder / "link.secret"
        self.secret = new_secret(secret_file)
        command = [program("flower-superlink"), "--host", "127.0.0.1", "--port", str(port), "--isolation", "process"]
        command += ["--superexec-auth-secret-file", str(secret_file), "--database", str(self.folder / "state.db")]
        command += ["--disable-runtime-dependency-installation", *self._tls()]
        self._child("the link", command, ("127.0.0.1", port))

    def _open(self, public_keys: dict[str, bytes]) -> None:
        """Start the gateway in front of Flower; it admits the nodes with these ``public_keys``."""
        door = [sys.executable, "-m", "consilium.deploy.gateway", "--listen", self.options.address]
        door += ["--upstream", self.address, "--limits", json.dumps(asdict(self.options.door))]
        if self.keys is not None:
            nodes = self.folder / "nodes.pem"
            nodes.write_bytes(b"".join(public_keys.values()))
            door += [
                "--certificate",
                str(self.keys.certificate),
                "--key",
                str(self.keys.key),
                "--ca",
                str(self.keys.ca),
                "--nodes",
                str(nodes),
            ]
        host, at = parse_address(self.options.address)
        self._child("the gateway", door, ("127.0.0.1" if host in ("0.0.0.0", "::") else host, at))

    def _tls(self) -> list[str]:
        if self.keys is None:
            return ["--insecure"]
        files = ("--ssl-certfile", self.keys.certificate), ("--ssl-keyfile", self.keys.key)
        named = [str(part) for pair in (*files, ("--ssl-ca-certfile", self.keys.ca)) for part in pair]
        return [*named, "--enable-supernode-auth"]

    def _child(self, name: str, command: list[str], address: tuple[str, int]) -> None:
        child = Child(
            name, command, self.folder / "flower", self.folder / f"{name.removeprefix('the ').replace(' ', '-')}.log"
        )
        self.children.append(child)
        wait_open(child, address)

    def check(self) -> None:
        """Raise if a process has ended, or the disk is full: the link keeps its messages there, and would only fail.

        Raises Failed: a process has ended, or the disk is full.
        """
        for child in self.children:
            child.check()
        room = os.statvfs(self.folder)
        if room.f_bavail * room.f_frsize < _LEAST:
            remedy = "free disk space and serve again; nothing finished is lost"
            raise Failed(f"no space is left on the disk of {self.folder}", remedy=remedy)

    def stop(self) -> None:
        """End the processes, the gateway first."""
        for child in reversed(self.children):
            child.stop()

    @contextmanager
    def seat(self, public_keys: dict[str, bytes], say: Callable[[str], None]) -> Iterator[Caller]:
        """Register the keys and start a run; the gateway starts last, or Flower would refuse the sites."""
        nodes = register_sites(self.address, self.ca, public_keys)
        seat = ServerSeat(self.address, self.ca, self.secret, start_run(self.address, self.ca), self.check)
        why = "the server ended"
        try:
            self._open(public_keys)
            yield Caller(
                seat.grid,
                nodes,
                self.options.deadline,
                ahead=self.options.ahead,
                births=seat.births,
                alive=self.check,
                say=say,
                waits=Lateness(say),
            )
            why = ""
        finally:
            seat.leave(why)


@contextmanager
def linked(folder: Path, options: ServerOptions, keys: ServerKeys | None) -> Iterator[Link]:
    """The processes while the block runs; their logs and files are in ``folder``, readable by its owner only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    link = Link(folder, options, keys)
    with ExitStack() as stack:
        stack.callback(link.stop)
        link.start()
        yield link
