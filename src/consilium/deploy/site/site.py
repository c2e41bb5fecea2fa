"""`consilium join`: one site.  Its node holds the connection to the server; its worker answers the messages received.

The node is Flower's own program with the site's key.  It runs nothing: messages are handed to the worker in this
process over the loopback, authenticated by a secret that is new each time.  A broken connection is resumed: the node
retries, and it is restarted when it ends, unless the server refused its key.  A node that ended while the network was
cut could not deregister; this is done for it, or its key would be refused for a minute.
"""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from consilium.core.errors import Failed, Refused
from consilium.core.terminal import log_lines
from consilium.deploy.transport.certificates import check_site_name
from consilium.deploy.transport.flower_internals import NodeSeat, depart
from consilium.deploy.transport.processes import (
    Child,
    free_port,
    new_secret,
    parse_address,
    program,
    refuse_insecure,
    require_flower,
    wait_open,
)

from .policy import SiteLimits, read_limits
from .policy_enforcement import Guard
from .secret import PlainFile
from .secret_source import custody
from .site_data import holding_of
from .worker import Worker

__all__ = ["SiteConnection", "join", "take_part"]

_POLL, _IDLE = 0.05, 0.25
"""Seconds between two polls for a message: soon after one, and after a while without one."""
_AGAIN = 2.0
_SECONDS_AWAY = 90.0
"""After a crash the server takes a node for alive for a minute, and refuses its key to a second one."""
_FOREIGN = "the server's certificate is not signed by {}"
_log = logging.getLogger("consilium.site")


@dataclass(frozen=True)
class SiteConnection:
    """The server's address, and the credentials of both: the site's key and the server's certificate authority.

    Without them ``insecure`` must be True, and the address on the loopback.
    """

    address: str
    key: Path | None
    ca: Path | None
    insecure: bool = False

    def check(self) -> None:
        """Refuse what is not safe, or not there.

        Raises Refused: a file is missing or open to others, or the address is not safe.
        """
        host, _ = parse_address(self.address)
        refuse_insecure(host, self.insecure, self.key is None or self.ca is None, "--key and --ca")
        for path in (self.key, self.ca):
            if path is not None and not path.is_file():
                raise Refused(
                    f"{path} is not there",
                    remedy="obtain it from the server's operator, or make it with `consilium keys site`",
                )
        if self.key is not None and self.key.stat().st_mode & 0o077:
            raise Refused(f"others can read {self.key}", remedy=f"chmod 600 {self.key}")


def take_part(
    line: SiteConnection, site: str, data: str, limits: Path | None, state: Path, secret_from: str = "file"
) -> None:
    """Join as ``site`` with the records that ``data`` names, keeping everything below ``state``.

    ``secret_from`` is where the ledger's secret is stored: see :mod:`.secret_source`.
    """
    secret_custody = custody(secret_from)
    line.check()
    check_site_name(site)
    os.umask(0o077)  # states and answers are private files
    guard = Guard(SiteLimits() if limits is None else read_limits(limits), state / "ledger", secret_custody)
    log_lines("%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if not isinstance(secret_custody, PlainFile):
        guard.unlock()
    join(line, Worker(site, holding_of(data), state / "studies", guard), state)


def join(line: SiteConnection, worker: Worker, home: Path) -> None:
    """Take part until interrupted.

    Raises Refused: the server's certificate is of another authority, or it does not accept the site's key.
    """
    require_flower()
    line.check()
    check_site_name(worker.site)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    start, connected = time.monotonic(), False
    while True:
        try:
            node = _live(line, worker, home)
        except OSError as error:
            if not connected:
                raise
            _pause(f"{error.filename or home}: {error.strerror or error}; free disk space")
            continue
        number = _number(node)
        connected = connected or number > 0
        if _foreign(node) and not connected:
            raise Refused(_FOREIGN.format(line.ca), remedy="obtain ca.crt from the server's operator")
        if not _rejected(node):
            start = time.monotonic()
        elif time.monotonic() - start > _SECONDS_AWAY:
            raise Refused("the server does not take this key", remedy="ask its operator to put ID.pub into sites/")
        _pause(_why_ended(node, line))
        if number:
            _depart(line, number)


def _live(line: SiteConnection, worker: Worker, home: Path) -> Child:
    """A node from its beginning to its end."""
    node, seat = _connect(line, home)
    try:
        _answer_all(node, seat, worker)
    finally:
        seat.close()
        node.stop()
    return node


def _pause(why: str) -> None:
    _log.warning("%s; again in %.0f s", why, _AGAIN)
    time.sleep(_AGAIN)


def _why_ended(node: Child, line: SiteConnection) -> str:
    if _rejected(node):
        return "the server does not take this key yet"
    return _FOREIGN.format(line.ca) if _foreign(node) else f"the node ended: {node.last_words()}"


def _depart(line: SiteConnection, number: int) -> None:
    """Deregister a node that could not do so itself, until this is acknowledged or no longer needed."""
    end = time.monotonic() + _SECONDS_AWAY
    while line.key is not None and line.ca is not None and time.monotonic() < end:
        if depart(line.address, line.ca, line.key, number):
            return
        time.sleep(_AGAIN)


def _connect(line: SiteConnection, home: Path) -> tuple[Child, NodeSeat]:
    """Start the node; it listens before it has reached the server."""
    port, secret_file = free_port(), home / "node.secret"
    secret = new_secret(secret_file)
    host, at = parse_address(line.address)
    command = [program("flower-supernode"), "--superlink", f"{host}:{at}", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--isolation", "process", "--superexec-auth-secret-file", str(secret_file)]
    if line.key is None or line.ca is None:
        command += ["--insecure"]
    else:
        command += ["--root-certificates", str(line.ca), "--auth-supernode-private-key", str(line.key)]
    log = home / "node.log"
    log.unlink(missing_ok=True)
    node = Child("the node", command, home / "flower", log)
    try:
        wait_open(node, ("127.0.0.1", port))
    except Failed:
        _log.warning("the node did not start: %s", node.last_words())
    return node, NodeSeat(f"127.0.0.1:{port}", secret, _not_answered)


def _answer_all(node: Child, seat: NodeSeat, worker: Worker) -> None:
    """Answer messages until the node ends."""
    import httpx

    idle = _POLL
    while node.process.poll() is None:
        try:
            if seat.answer(worker):
                idle = _POLL
            else:
                time.sleep(idle)
                idle = min(1.2 * idle, _IDLE)
        except httpx.HTTPError as error:
            _log.warning("the node did not take it: %s", type(error).__name__)
            time.sleep(1)


def _not_answered(error: Exception) -> None:
    _log.warning("a message was not answered: %s", type(error).__name__)


def _log_text(node: Child) -> str:
    return node.log.read_text(encoding="utf-8", errors="replace") if node.log.is_file() else ""


def _number(node: Child) -> int:
    """The number that the server gave this node; 0 if it gave none."""
    match = re.search(r"SuperNode ID: ([0-9]+)", _log_text(node))
    return int(match[1]) if match else 0


def _rejected(node: Child) -> bool:
    """Whether the server refused the key: unknown, or held by a node that it takes for alive."""
    return any(f"code: {code}" in _log_text(node) for code in (2001, 2004))


def _foreign(node: Child) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in _log_text(node)
