"""A site's secret under a passphrase: who steals the folder has to guess it, at 128 MiB and half a second a guess.

    key    = scrypt(passphrase; salt, N = 2^17, r = 8, p = 1)
    file   = all parameters, AES-256-GCM(key; secret, with the parameters as associated data)

A new passphrase has 15 characters at least.  It is requested once per process, and a wrong one changes nothing.

Source: RFC 7914 (scrypt); OWASP Password Storage Cheat Sheet 2023 (N, r and p); NIST SP 800-38D (GCM); NIST SP
800-63B-4 section 3.1.1.2 (length of a password that is the only factor; normalisation of its characters)
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from consilium.core.errors import MissingExtra, Refused
from consilium.core.plain import Json, member
from consilium.deploy.protocol.framing import canonical, parse_object

from .secret import Custody

__all__ = ["Passphrase"]

_N, _R, _P = 2**17, 8, 1
_MOST = 2**20
"""The largest N that is read: 1 GiB."""
_SHORTEST = 15


@final
class Passphrase(Custody):
    """``ask`` returns the passphrase; it is called with True for a new one, which should be typed twice."""

    name = "passphrase"

    def __init__(self, ask: Callable[[bool], str]) -> None:
        self._ask, self._known = ask, dict[bytes, bytes]()

    def wrap(self, key: bytes) -> bytes:
        """The file's content; Refused for a passphrase that is too short.

        Raises Refused: the passphrase is too short.
        """
        passphrase = self._ask(True)
        if len(passphrase) < _SHORTEST:
            reason = f"the new passphrase has fewer than {_SHORTEST} characters"
            raise Refused(reason, remedy="choose a longer one, for example several words")
        nonce = os.urandom(12)
        about: dict[str, Json] = {
            "kept": self.name, "kdf": "scrypt", "n": _N, "r": _R, "p": _P, "salt": os.urandom(16).hex(),
            "cipher": "aes-256-gcm", "nonce": nonce.hex(),
        }  # fmt: skip
        sealed = _cipher(passphrase, about).encrypt(nonce, key, canonical(about))
        data = canonical({**about, "sealed": sealed.hex()})
        self._known[data] = key
        return data

    def unwrap(self, data: bytes, path: Path) -> bytes:
        """The secret; Refused for a wrong passphrase."""
        if data not in self._known:
            self._known[data] = _opened(data, self._ask(False), path)
        return self._known[data]


def _opened(data: bytes, passphrase: str, path: Path) -> bytes:
    about = parse_object(data, "secret")
    try:
        sealed, nonce = bytes.fromhex(member(about, "sealed", str)), bytes.fromhex(member(about, "nonce", str))
        del about["sealed"]
        cipher = _cipher(passphrase, about)
    except (KeyError, TypeError, ValueError):
        raise Refused("the site's secret is damaged", remedy="restore it from your backup", where=str(path)) from None
    from cryptography.exceptions import InvalidTag

    try:
        return bytes(cipher.decrypt(nonce, sealed, canonical(about)))
    except (InvalidTag, ValueError):
        raise Refused(
            "the passphrase does not open the site's secret, or its file is damaged",
            remedy="give the passphrase that it was kept under; nothing was changed",
            where=str(path),
        ) from None


def _cipher(passphrase: str, about: Mapping[str, Json]) -> Any:
    """AES-256-GCM under the key that the passphrase gives; ValueError for parameters that are not bearable."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    except ImportError:
        raise MissingExtra("a passphrase needs cryptography", remedy="pip install consilium[flower]") from None
    n, r, p = (member(about, name, int) for name in ("n", "r", "p"))
    if not (1 < n <= _MOST and 1 <= r <= _R and 1 <= p <= 4):
        raise ValueError("parameters of scrypt")
    text = unicodedata.normalize("NFKC", passphrase).encode()
    return AESGCM(Scrypt(salt=bytes.fromhex(member(about, "salt", str)), length=32, n=n, r=r, p=p).derive(text))
