"""An append-only file of JSON lines that is on disk before anything follows from it, and cannot be changed unnoticed.

    mac_0 = HMAC(chain; 0 | line_0)      mac_i = HMAC(chain; mac_(i-1) | line_i)
    head  = n, mac_n, HMAC(head; n | mac_n)

``journal.jsonl`` holds the lines with their macs, ``head.json`` the number of lines, the last mac and a mac of both; a
second head may be stored elsewhere (``witness``).  A changed, missing or reordered line breaks the chain; a journal
that ends before its head was cut or rolled back, and a head cannot be written without the key.  All of it is refused,
never repaired: the record of what was spent would be lost.  The one exception is half a line *after* the head: a crash
in mid-append, before anything could follow from that line.  One process at a time.

Version 1 had heads without a mac, so a journal that was cut fitted a head made of a mac of its own lines.  A journal of
version 1 whose lines and heads all verify is rewritten as one of version 2, once, and this is logged.  The version is
in the first line and in the keys: no mac of version 1 is one of version 2, so a downgrade is impossible.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from consilium.core.errors import Failed, Refused
from consilium.core.files import opened_to_lock, read_bytes
from consilium.core.plain import Json, member
from consilium.deploy.protocol.framing import canonical, parse_object

__all__ = ["Journal", "durable", "sync_folder"]

_START = bytes(32)
_VERSION = 2
_log = logging.getLogger("consilium.site")


class Journal:
    """The journal in ``folder``, open for this process alone until closed.

    ``key`` seals it; ``wait`` is how many seconds to wait for another process.
    """

    def __init__(self, folder: Path, key: bytes, witness: Path | None = None, wait: float = 0.0) -> None:
        self.path, self._key = folder / "journal.jsonl", key
        self._chain, self._seal = _keys(key)
        self._heads = tuple(p for p in (folder / "head.json", witness) if p is not None)
        self._lock = _lock(folder / "lock", wait)
        try:
            self._upgrade()
            self.lines, self._mac, self._size = self._read(self._chain)
        except BaseException:
            self._lock.close()
            raise

    @classmethod
    def create(cls, folder: Path, key: bytes, about: Mapping[str, Json]) -> None:
        """Begin a journal in ``folder``, which has none; its first line is ``about``."""
        chain, seal = _keys(key)
        data, mac = _line({**about, "journal": _VERSION}, _START, chain)
        durable(folder / "journal.jsonl", data)
        durable(folder / "head.json", _head(1, mac, seal))

    def append(self, line: Mapping[str, Json]) -> None:
        """``line``, on disk when this returns; a full disk leaves the journal as it was.

        The new heads are written beside the old ones first, where a full disk shows, and take their place last.
        """
        data, mac = _line(line, self._mac, self._chain)
        drafts = [_draft(head, _head(len(self.lines) + 1, mac, self._seal)) for head in self._heads]
        try:
            self._write(data)
        except OSError as error:
            for draft in drafts:
                _forget(draft)
            raise _unwritten(self.path, error) from error
        self.lines, self._mac, self._size = (*self.lines, dict(line)), mac, self._size + len(data)
        for head, draft in zip(self._heads, drafts, strict=True):
            _put(draft, head)

    def close(self) -> None:
        """Let other processes have it."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        """Behind the last line, in the place of what a crash in mid-append left there; all of ``data`` or none."""
        handle = os.open(self.path, os.O_WRONLY)
        try:
            os.ftruncate(handle, self._size)
            os.lseek(handle, self._size, os.SEEK_SET)
            try:
                _write_all(handle, data)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, self._size)
                raise
        finally:
            os.close(handle)

    def _upgrade(self) -> None:
        """Rewrite a journal of version 1: heads first, so that a kill leaves one that is upgraded again."""
        whole = self._whole()
        claimed = _claims(whole)
        if not whole or claimed == _VERSION:
            return
        if claimed != 1:
            raise self._broken(f"it has version {claimed!r:.20}; this release reads up to {_VERSION}")
        lines, macs, _ = self._chained(whole, self._key)
        renewed, mac = b"", _START
        fresh: list[bytes] = []
        for number, line in enumerate(lines):
            data, mac = _line(line if number else {**line, "journal": _VERSION}, mac, self._chain)
            renewed, fresh = renewed + data, [*fresh, mac]
        for head in self._heads:
            self._check_head(head, fresh, old=macs)
        for head in self._heads:
            durable(head, _head(len(fresh), mac, self._seal))
        durable(self.path, renewed)
        _log.info("%s: its %d lines hold; its heads are keyed from now on", self.path, len(lines))

    def _whole(self) -> bytes:
        """The lines that are whole."""
        try:
            data = read_bytes(self.path)
        except OSError as error:
            raise self._broken(f"it cannot be read ({error.strerror})") from None
        return data[: data.rfind(b"\n") + 1]

    def _read(self, chain: bytes) -> tuple[tuple[dict[str, Json], ...], bytes, int]:
        """The lines, the last mac and the bytes they take, checked against the chain and against every head."""
        whole = self._whole()
        lines, macs, mac = self._chained(whole, chain)
        if not lines:
            raise self._broken("it is empty")
        for head in self._heads:
            self._check_head(head, macs)
        return tuple(lines), mac, len(whole)

    def _chained(self, whole: bytes, chain: bytes) -> tuple[list[dict[str, Json]], list[bytes], bytes]:
        """The lines, the mac of each, and the last one."""
        lines, macs, mac = [], [], _START
        for number, raw in enumerate(whole.splitlines(), 1):
            line, mac = self._checked(raw, mac, number, chain)
            lines.append(line)
            macs.append(mac)
        return lines, macs, mac

    def _checked(self, raw: bytes, before: bytes, number: int, chain: bytes) -> tuple[dict[str, Json], bytes]:
        try:
            line = parse_object(raw, "line")
            sent_mac = bytes.fromhex(member(line, "mac", str))
            del line["mac"]
        except (Refused, KeyError, TypeError, ValueError):
            raise self._broken(f"line {number} is damaged") from None
        data, mac = _line(line, before, chain)
        if not hmac.compare_digest(sent_mac, mac) or data != raw + b"\n":
            raise self._broken(f"line {number} does not follow from the lines before it")
        return line, mac

    def _check_head(self, path: Path, macs: list[bytes], old: list[bytes] | None = None) -> None:
        """Refuse a head that is not of these ``macs``; a head of version 1 is only read beside the ``old`` ones."""
        if path != self._heads[0] and not path.exists() and len(macs) == 1:
            return  # it is first written with the first line
        try:
            head = parse_object(read_bytes(path), "head")
            count, mac, version = (
                member(head, "count", int),
                bytes.fromhex(member(head, "mac", str)),
                head.get("version", 1),
            )
            sealed = hmac.compare_digest(_head(count, mac, self._seal), canonical(head))
        except (OSError, Refused, KeyError, TypeError, ValueError):
            raise self._broken(
                f"its head {path} is missing or damaged (a new witness is a copy of head.json)"
            ) from None
        if version == 1 and old is not None and "seal" not in head:
            macs = old
        elif not sealed:
            raise self._broken(f"its head {path} was not written with this site's secret: it was changed, or is older")
        if not 1 <= count <= len(macs):
            raise self._broken(f"it ends at line {len(macs)} and had {count}: it was cut or rolled back")
        if not hmac.compare_digest(macs[count - 1], mac):
            raise self._broken(f"it is not the journal whose head is {path}")

    def _broken(self, why: str) -> Refused:
        remedy = "restore the newest copy of the whole folder; an empty one would lose the record of what was spent"
        return Refused(why, remedy=remedy, where=str(self.path))


def durable(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` (mode 0600) and be sure of it: the old file or the new one, also after a crash."""
    _put(_draft(path, data), path)


def sync_folder(folder: Path) -> None:
    """Be sure of the names in ``folder``: a file is on disk only when its name is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _draft(path: Path, data: bytes) -> Path:
    """``data`` on disk, beside ``path``; nothing of it is left where the disk is full."""
    draft = path.with_name(path.name + ".draft")
    try:
        draft.unlink(missing_ok=True)  # of a crash, or a link
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _write_all(handle, data)
        finally:
            os.close(handle)
    except OSError as error:
        _forget(draft)
        raise _unwritten(path, error) from error
    return draft


def _put(draft: Path, path: Path) -> None:
    try:
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        _forget(draft)
        raise _unwritten(path, error) from error


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]
    os.fsync(handle)


def _forget(draft: Path) -> None:
    with suppress(OSError):
        draft.unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> Failed:
    return Failed(f"cannot write {path}: {error}", remedy="free disk space; nothing was sent")


def _line(line: Mapping[str, Json], before: bytes, key: bytes) -> tuple[bytes, bytes]:
    """The bytes of ``line`` with its mac, and the mac."""
    mac = hmac.new(key, before + canonical(line), hashlib.sha256).digest()
    return json.dumps({**line, "mac": mac.hex()}, sort_keys=True, separators=(",", ":")).encode() + b"\n", mac


def _head(count: int, mac: bytes, key: bytes) -> bytes:
    about = {"count": count, "mac": mac.hex(), "version": _VERSION}
    return canonical({**about, "seal": hmac.new(key, canonical(about), hashlib.sha256).hexdigest()})


def _keys(key: bytes) -> tuple[bytes, bytes]:
    """What chains the lines, and what seals the heads: other keys for another version."""
    chain, seal = (f"{part} {_VERSION}".encode() for part in ("chain", "head"))
    return hmac.new(key, chain, hashlib.sha256).digest(), hmac.new(key, seal, hashlib.sha256).digest()


def _claims(whole: bytes) -> object:
    """The version that the first line names; 1 where it names none."""
    try:
        return parse_object(whole.splitlines()[0], "line").get("journal", 1)
    except (Refused, IndexError):
        return 1


def _lock(path: Path, wait: float) -> IO[bytes]:
    """An open file that holds the lock until it is closed."""
    try:
        import fcntl
    except ImportError:
        raise Refused("a ledger needs file locks, which this system lacks", remedy="use Linux or macOS") from None
    try:
        file = opened_to_lock(path)
    except OSError as error:
        raise Refused(f"cannot be locked ({error.strerror})", remedy="check the folder", where=str(path)) from None
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            file.close()
            raise Refused(
                "another process uses this ledger", remedy="let that one finish: a site runs once", where=str(path)
            ) from None
        return file
