"""Digests of a server's certificate and a site's key, which both sides compare by telephone before the site joins."""

from __future__ import annotations

import base64
import hashlib

__all__ = ["fingerprints"]


def fingerprints(authority: bytes, key: bytes) -> tuple[str, ...]:
    """Lines about the ``authority``'s certificate and the site's public ``key``, both in PEM form."""
    return (
        f"- `ca.crt` of the server: SHA-256 `{_digest(authority)}`",
        f"- public key of this site: SHA-256 `{_digest(key)}`",
        "- messages travel under TLS with this certificate only, and the server takes no other key under this name",
    )


def _digest(pem: bytes) -> str:
    """Of what stands between the marks, as openssl prints it of the binary form."""
    lines = [line for line in pem.decode("ascii").splitlines() if line and not line.startswith("-----")]
    return hashlib.sha256(base64.b64decode("".join(lines))).hexdigest()
