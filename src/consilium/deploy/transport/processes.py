"""Flower's processes: how they are started, how their readiness is detected, and how they end.

Each one gets an environment of its own that reports and installs nothing: telemetry, the check for
updates and the installation of an app's dependencies are off.  Its files are private (umask 077), its output goes to a
file, and it ends with the process that started it.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from consilium.core.errors import Failed, MissingExtra, Refused

__all__ = [
    "Child",
    "free_port",
    "is_loopback",
    "new_secret",
    "parse_address",
    "program",
    "refuse_insecure",
    "require_flower",
    "wait_open",
]

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
_TESTED = "1.41"


class Child:
    """One process on a leash."""

    def __init__(self, name: str, command: Sequence[str], home: Path, log: Path) -> None:
        self.name, self.log = name, log
        environment = {**os.environ, **_QUIET, "FLWR_HOME": str(home)}
        leashed = [sys.executable, "-m", "consilium.deploy.transport.die_with_parent", str(os.getpid()), *command]
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self.process = subprocess.Popen(
                leashed, env=environment, stdin=subprocess.DEVNULL, stdout=handle, stderr=handle, umask=0o077
            )
        finally:
            os.close(handle)

    def check(self) -> None:
        """Raise if it has ended.

        Raises Failed: the process has ended.
        """
        if self.process.poll() is not None:
            raise Failed(f"{self.name} has ended: {self.last_words()}", remedy=f"see {self.log}")

    def last_words(self) -> str:
        """The last line of the log that is not empty."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        messages = [line.strip() for line in lines if line.strip()]
        return messages[-1][:300] if messages else "its log is empty"

    def stop(self, seconds: float = 10.0) -> None:
        """End it, with force after ``seconds``."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def require_flower() -> None:
    """Refuse to go on without Flower, or with one whose inside is not known (see `flower_internals`).

    Raises MissingExtra: Flower is not installed, or in another version.
    """
    import importlib.metadata

    os.environ.update(_QUIET)  # before the first import of flwr, which reads them
    logging.getLogger("flwr").setLevel(logging.WARNING)
    try:
        version = importlib.metadata.version("flwr")
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra("deployment needs Flower", remedy="pip install consilium[flower]") from None
    if not version.startswith(f"{_TESTED}."):
        raise MissingExtra(
            f"deployment is tested with flwr {_TESTED}, and {version} is installed",
            remedy="pip install consilium[flower]",
        )


def program(name: str) -> str:
    """The path of a Flower program, that of this Python and not the first one in PATH.

    Raises MissingExtra: the program is not installed.
    """
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise MissingExtra(f"{name} is not beside {sys.executable}", remedy="pip install consilium[flower]")
    return str(path)


def wait_open(child: Child, address: tuple[str, int], seconds: float = 60.0) -> None:
    """Wait until ``child`` listens on ``address``.

    Raises Failed: ``child`` ended, or does not listen in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        child.check()
        try:
            socket.create_connection(address, 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Failed(f"{child.name} does not listen after {seconds:.0f} s", remedy=f"see {child.log}")


def free_port() -> int:
    """A free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_secret(path: Path) -> bytes:
    """32 random bytes, in a private file too; a new one each time."""
    secret = secrets.token_bytes(32)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
    return secret


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[HOST]:PORT``.

    Raises Refused: ``text`` is not an address.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Refused(f"{text!r:.80} is no address", remedy="write HOST:PORT", where="address")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """True if ``host`` is this machine and no other machine can reach it."""
    import ipaddress

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_insecure(host: str, insecure: bool, bare: bool, wanted: str) -> None:
    """TLS and keys are always on; without them (``bare``) ``insecure`` must be True and ``host`` the loopback.

    Raises Refused: the flags contradict each other, or ``host`` is not the loopback.
    """
    if insecure and not is_loopback(host):
        raise Refused(
            f"{host} is not the loopback", remedy="use --insecure-loopback with 127.0.0.1 only", where="address"
        )
    if insecure and not bare:
        raise Refused(f"both --insecure-loopback and {wanted} are given", remedy="remove one of them")
    if bare and not insecure:
        raise Refused(f"{wanted} is missing", remedy=f"give {wanted} (see `consilium keys`)")
