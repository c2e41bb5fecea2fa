"""``python -m consilium.deploy.gateway``: listen until interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import re
import resource
import ssl
from collections.abc import Sequence
from pathlib import Path

from consilium.core.terminal import log_lines

from . import ConnectionLimits, Gateway, Signatures

__all__ = ["main"]

_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\n?", re.DOTALL)
_log = logging.getLogger("consilium.gateway")


def main(arguments: Sequence[str] | None = None) -> None:
    """Listen until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("listen", "upstream"):
        parser.add_argument(f"--{name}", required=True, metavar="HOST:PORT")
    for name in ("certificate", "key", "ca", "nodes"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--limits", type=json.loads, default={}, metavar="JSON")
    options = parser.parse_args(arguments)
    log_lines("%(asctime)s gateway: %(message)s")
    tls = trust = signatures = None
    if options.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.num_tickets = 0  # no session resumption, so no state is stored per client
        tls.load_cert_chain(options.certificate, options.key)
        trust = ssl.create_default_context(cafile=str(options.ca))
        signatures = Signatures(_PEM.findall(options.nodes.read_bytes()))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each connection is two descriptors
    door = Gateway(
        _address(options.upstream),
        tls=tls,
        trust=trust,
        limits=ConnectionLimits(**options.limits),
        signatures=signatures,
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(door, _address(options.listen)))


async def _run(door: Gateway, address: tuple[str, int]) -> None:
    listener = await door.listen(*address)
    _log.info("open on %s port %d", *address)
    try:
        await listener.serve_forever()
    finally:
        listener.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    main()
