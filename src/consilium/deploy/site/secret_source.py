"""`--secret-from`: where the secret of a site's ledger is stored, and the source of its passphrase.

    file                     open, in the ledger's folder                                            (the default)
    keyring                  in the keyring of the system
    passphrase               typed on the terminal
    passphrase:env:NAME      in a variable of the environment, which is taken out of it
    passphrase:fd:N          the first line of an open file descriptor

A passphrase is never an argument: others see those, and shells remember them.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from functools import partial

from consilium.core.errors import Refused

from .os_keyring import Keyring
from .passphrase import Passphrase
from .secret import Custody, PlainFile

__all__ = ["custody"]

_WHERE = "--secret-from"
_OTHERWISE = "use passphrase:env:NAME or passphrase:fd:N"
_LONGEST = 4096


def custody(words: str) -> Custody:
    """The custody for the value of ``--secret-from``; an unknown value is not printed, since it may be a passphrase.

    Raises Refused: an unknown value.
    """
    if words == "file":
        return PlainFile()
    if words == "keyring":
        return Keyring()
    ask = _source(words)
    if ask is None:
        raise Refused(
            "its value is none of file, keyring, passphrase, passphrase:env:NAME and passphrase:fd:N",
            remedy="name the source of the passphrase; the passphrase itself is never an argument",
            where=_WHERE,
        )
    return Passphrase(ask)


def _source(words: str) -> Callable[[bool], str] | None:
    kind, _, rest = words.partition(":")
    way, _, name = rest.partition(":")
    if kind != "passphrase":
        return None
    if not rest:
        return _prompted
    if way == "env" and name:
        return partial(_of_environment, name)
    return partial(_of_descriptor, int(name)) if way == "fd" and name.isdecimal() and len(name) < 10 else None


def _prompted(new: bool) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        raise Refused("there is no terminal to read the passphrase from", remedy=_OTHERWISE, where=_WHERE)
    try:
        passphrase = getpass.getpass("passphrase of the site's secret: ")
        repetition = getpass.getpass("the same again: ") if new else passphrase
    except EOFError:
        raise Refused("no passphrase was given", remedy=_OTHERWISE, where=_WHERE) from None
    if passphrase != repetition:
        raise Refused("the two passphrases differ", remedy="start again; nothing was changed", where=_WHERE)
    return passphrase


def _of_environment(name: str, _: bool) -> str:
    """Taken out, so that no process that is started from here inherits it."""
    passphrase = os.environ.pop(name, "")
    if not passphrase:
        raise Refused(f"the variable {name} is not set, or empty", remedy="set it for this process alone", where=_WHERE)
    return passphrase


def _of_descriptor(number: int, _: bool) -> str:
    try:
        with os.fdopen(number, "rb") as file:
            passphrase = file.readline(_LONGEST).decode("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = f"the passphrase cannot be read from descriptor {number}: {type(error).__name__}"
        raise Refused(reason, remedy=f"open it for this process: {number}< FILE", where=_WHERE) from None
    if not passphrase:
        raise Refused(f"descriptor {number} holds no passphrase", remedy=_OTHERWISE, where=_WHERE)
    return passphrase
