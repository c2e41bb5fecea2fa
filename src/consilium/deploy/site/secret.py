"""A site's own secret: 32 bytes that only its owner can read, made once and never sent.

It pseudonymises the patients in the ledger, seals the ledger against change, and keys what is drawn once per record.
Without it a ledger cannot be read, so it is never replaced beside one: that would look like a fresh budget.

A custody is where the 32 bytes are stored: in the ledger's file ``secret`` itself (`PlainFile`), in it under a
passphrase (:mod:`.passphrase`), or in the system's keyring (:mod:`.os_keyring`), to which the file then only points.
"""

from __future__ import annotations

import logging
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, final

from consilium.core.errors import Failed, Refused
from consilium.core.files import read_bytes
from consilium.core.keystream import Secret
from consilium.deploy.protocol.framing import parse_object

from .journal import durable

__all__ = ["Custody", "PlainFile", "make_secret", "read_secret"]

_BYTES = 32
_log = logging.getLogger("consilium.site")


class Custody(ABC):
    """Where a site's secret is stored; ``name`` is written in its file and is the value of ``--secret-from``."""

    name: ClassVar[str]

    @abstractmethod
    def wrap(self, key: bytes) -> bytes:
        """The file's content for the 32 bytes ``key``, which are stored when this returns."""

    @abstractmethod
    def unwrap(self, data: bytes, path: Path) -> bytes:
        """The key that the content ``data`` of the file ``path`` stands for; Refused where it cannot be read."""

    def make(self, path: Path) -> Secret:
        """A new secret, its file (mode 0600) on disk before this returns; refused where one is there already.

        Raises Refused: the file exists already.
        """
        if path.exists():
            raise Refused(f"{path} is there already", remedy="keep it: without it the ledger is lost")
        key = os.urandom(_BYTES)
        _write(path, self.wrap(key))
        return Secret(key)

    def read(self, path: Path) -> Secret:
        """The secret of the file ``path``; an unencrypted one is moved into this custody, and this is logged.

        Refused where it is missing, damaged, readable by others, or kept in another way.

        Raises Refused: the file cannot be read by this custody.
        """
        data = _private(path)
        custody_name = _custody_kind(data, path)
        if custody_name == self.name:
            return Secret(self.unwrap(data, path))
        if custody_name != PlainFile.name:
            raise Refused(
                f"the site's secret is not stored by {self.name}",
                remedy=f"use --secret-from {custody_name}",
                where=str(path),
            )
        durable(path, self.wrap(data))
        _log.info("%s: stored by %s from now on; earlier copies, as in backups, are still unencrypted", path, self.name)
        return Secret(data)


@final
class PlainFile(Custody):
    """The secret is stored unencrypted in a file that only its owner can read."""

    name = "file"

    def wrap(self, key: bytes) -> bytes:
        """The key itself."""
        return key

    def unwrap(self, data: bytes, path: Path) -> bytes:
        """The data themselves."""
        return data


def make_secret(path: Path) -> Secret:
    """A new secret, stored unencrypted in ``path``."""
    return PlainFile().make(path)


def read_secret(path: Path) -> Secret:
    """The secret that is stored unencrypted in ``path``."""
    return PlainFile().read(path)


def _private(path: Path) -> bytes:
    try:
        mode, data = path.stat().st_mode, read_bytes(path, 4096)
    except OSError as error:
        raise Refused(
            f"the site's secret cannot be read: {error.strerror}",
            remedy="restore it from your backup: a new one would lose the record of what was spent",
            where=str(path),
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Refused("others can read the site's secret", remedy=f"chmod 600 {path}", where=str(path))
    return data


def _custody_kind(data: bytes, path: Path) -> str:
    """The name of the custody that wrote ``data``."""
    if len(data) == _BYTES:
        return PlainFile.name
    try:
        custody_name = parse_object(data, "secret").get("kept")
    except Refused:
        custody_name = None
    if custody_name not in ("passphrase", "keyring"):
        raise Refused(f"the site's secret has {len(data)} bytes, not {_BYTES}", remedy="restore it", where=str(path))
    return str(custody_name)


def _write(path: Path, data: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
    except FileExistsError:
        raise Refused(f"{path} is there already", remedy="keep it: without it the ledger is lost") from None
    except OSError as error:
        raise Failed(f"cannot write {path}: {error}", remedy="free disk space, or name another folder") from error
