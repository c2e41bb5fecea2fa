"""A site's own secret: 32 bytes in a file that only its owner can read, made once and never sent.

It hides whose records stand in the ledger, seals the ledger against change, and keys what is drawn once per record.
Without it a ledger says nothing, so it is never made anew beside one: that would look like a fresh budget.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from consilium.core.errors import Failed, Refused
from consilium.core.files import read_bytes
from consilium.core.keystream import Secret

__all__ = ["make_secret", "read_secret"]


def make_secret(path: Path) -> Secret:
    """A new secret in ``path`` (mode 0600), on disk before this returns; refused where one is there already."""
    key = os.urandom(32)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, key)
            os.fsync(handle)
        finally:
            os.close(handle)
    except FileExistsError:
        raise Refused(f"{path} is there already", remedy="keep it: without it the ledger is lost") from None
    except OSError as error:
        raise Failed(f"cannot write {path}: {error}", remedy="free disk space, or name another folder") from error
    return Secret(key)


def read_secret(path: Path) -> Secret:
    """The secret in ``path``; refused where it is missing, damaged, or readable by others."""
    try:
        mode, key = path.stat().st_mode, read_bytes(path, 1024)
    except OSError as error:
        raise Refused(
            f"the site's secret cannot be read: {error.strerror}",
            remedy="restore it from your backup: a new one would forget what was spent",
            where=str(path),
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Refused("others can read the site's secret", remedy=f"chmod 600 {path}", where=str(path))
    if len(key) != 32:
        raise Refused(f"the site's secret has {len(key)} bytes, not 32", remedy="restore it", where=str(path))
    return Secret(key)
