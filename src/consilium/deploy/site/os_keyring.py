"""A site's secret in the keyring of its system (macOS, Windows, Secret Service, KWallet); the file only points to it.

    service "consilium", account 32 random digits, password the secret in hexadecimal

Who steals the folder has an account's name.  Who can act as the site's user, while that user is logged in, has it all.
A backup of the folder is none of the keyring: see to that one too.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import secrets
from pathlib import Path
from typing import Any, final

from consilium.core.errors import MissingExtra, Refused
from consilium.deploy.protocol.framing import canonical, parse_object

from .secret import Custody

__all__ = ["Keyring"]

_SERVICE = "consilium"
_INSTEAD = "use --secret-from passphrase"


@final
class Keyring(Custody):
    """The keyring that the package ``keyring`` finds; one that keeps nothing, or in the open, is refused."""

    name = "keyring"

    def wrap(self, key: bytes) -> bytes:
        """Put the key into the keyring; what points to it.

        Raises Refused: the keyring did not store the key.
        """
        account = secrets.token_hex(16)
        _call("set_password", _SERVICE, account, key.hex())
        if _call("get_password", _SERVICE, account) != key.hex():
            raise Refused("the system's keyring did not keep the site's secret", remedy=_INSTEAD)
        return canonical({"kept": self.name, "service": _SERVICE, "account": account, "check": _check(key)})

    def unwrap(self, data: bytes, path: Path) -> bytes:
        """The key from the keyring; Refused where it is not there any more.

        Raises Refused: the keyring does not have the key.
        """
        about = parse_object(data, "secret")
        entry = _call("get_password", str(about.get("service")), str(about.get("account")))
        try:
            key = bytes.fromhex(entry or "")
        except ValueError:
            key = b""
        if len(key) != 32 or not hmac.compare_digest(_check(key), str(about.get("check"))):
            raise Refused(
                "the system's keyring does not have the site's secret",
                remedy="log in as its user, or restore the keyring: a new secret would lose the record of what "
                "was spent",
                where=str(path),
            )
        return key


def _check(key: bytes) -> str:
    return hmac.new(key, b"custody", hashlib.sha256).hexdigest()


def _call(method: str, *arguments: str) -> str | None:
    """What the keyring answers; Refused where there is none that keeps a secret."""
    try:
        package, errors = importlib.import_module("keyring"), importlib.import_module("keyring.errors")
    except ImportError:
        raise MissingExtra("the system's keyring needs keyring", remedy="pip install consilium[keyring]") from None
    backend: Any = package.get_keyring()
    if (
        getattr(backend, "priority", 1) < 1
    ):  # backends that fail, lose entries or store plain text have a priority below 1
        raise Refused(f"this system has no keyring ({type(backend).__module__})", remedy=_INSTEAD)
    try:
        answer = getattr(backend, method)(*arguments)
    except errors.KeyringError as error:
        reason = f"the system's keyring does not answer: {type(error).__name__}"
        raise Refused(reason, remedy=f"unlock it, or {_INSTEAD}") from None
    return None if answer is None else str(answer)
