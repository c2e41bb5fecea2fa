"""An append-only file of JSON lines that is on disk before anything follows from it, and cannot be changed unnoticed.

    mac_0 = HMAC(key; 0 | line_0)      mac_i = HMAC(key; mac_(i-1) | line_i)

``journal.jsonl`` holds the lines with their macs, ``head.json`` the number of lines and the last mac; a second head may
lie elsewhere (``witness``).  A changed, missing or reordered line breaks the chain; a journal that ends before its head
was cut or rolled back.  Both are refused, never repaired: what was spent would be forgotten.  The one exception is half
a line *after* the head: a crash in mid-append, before anything could follow from that line.  One process at a time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from consilium.core.errors import Failed, Refused
from consilium.core.files import opened_to_lock, read_bytes

from .frame import canonical, parse

__all__ = ["Journal", "durable", "sync_folder"]

_START = bytes(32)


class Journal:
    """The journal in ``folder``, open for this process alone until closed.

    ``key`` seals it; ``wait`` is how many seconds to wait for another process.
    """

    def __init__(self, folder: Path, key: bytes, witness: Path | None = None, wait: float = 0.0) -> None:
        self.path, self._key = folder / "journal.jsonl", key
        self._heads = tuple(p for p in (folder / "head.json", witness) if p is not None)
        self._lock = _lock(folder / "lock", wait)
        try:
            self.lines, self._mac, self._size = self._read()
        except BaseException:
            self._lock.close()
            raise

    @classmethod
    def create(cls, folder: Path, key: bytes, about: Mapping[str, Any]) -> None:
        """Begin a journal in ``folder``, which has none; its first line is ``about``."""
        data, mac = _line(about, _START, key)
        durable(folder / "journal.jsonl", data)
        durable(folder / "head.json", _head(1, mac))

    def append(self, line: Mapping[str, Any]) -> None:
        """``line``, on disk when this returns; a full disk leaves the journal as it was.

        The new heads are written beside the old ones first, where a full disk shows, and take their place last.
        """
        data, mac = _line(line, self._mac, self._key)
        drafts = [_draft(head, _head(len(self.lines) + 1, mac)) for head in self._heads]
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

    def _read(self) -> tuple[tuple[dict[str, Any], ...], bytes, int]:
        """The lines, the last mac and the bytes they take, checked against the chain and against every head."""
        try:
            data = read_bytes(self.path)
        except OSError as error:
            raise self._broken(f"it cannot be read ({error.strerror})") from None
        whole = data[: data.rfind(b"\n") + 1]
        lines, macs, mac = [], [], _START
        for number, raw in enumerate(whole.splitlines(), 1):
            line, mac = self._checked(raw, mac, number)
            lines.append(line)
            macs.append(mac)
        if not lines:
            raise self._broken("it is empty")
        for head in self._heads:
            self._check_head(head, macs)
        return tuple(lines), mac, len(whole)

    def _checked(self, raw: bytes, before: bytes, number: int) -> tuple[dict[str, Any], bytes]:
        try:
            line = parse(raw, "line")
            told = bytes.fromhex(line.pop("mac"))
        except (Refused, KeyError, TypeError, ValueError):
            raise self._broken(f"line {number} is damaged") from None
        data, mac = _line(line, before, self._key)
        if not hmac.compare_digest(told, mac) or data != raw + b"\n":
            raise self._broken(f"line {number} does not follow from what stands before it")
        return line, mac

    def _check_head(self, path: Path, macs: list[bytes]) -> None:
        if path != self._heads[0] and not path.exists() and len(macs) == 1:
            return  # it is first written with the first line
        try:
            head = parse(read_bytes(path), "head")
            count, mac = int(head["count"]), bytes.fromhex(head["mac"])
        except (OSError, Refused, KeyError, TypeError, ValueError):
            raise self._broken(
                f"its head {path} is missing or damaged (a new witness is a copy of head.json)"
            ) from None
        if not 1 <= count <= len(macs):
            raise self._broken(f"it ends at line {len(macs)} and had {count}: it was cut or rolled back")
        if not hmac.compare_digest(macs[count - 1], mac):
            raise self._broken(f"it is not the journal whose head is {path}")

    def _broken(self, why: str) -> Refused:
        remedy = "restore the newest copy of the whole folder; an empty one would forget what was spent"
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


def _line(line: Mapping[str, Any], before: bytes, key: bytes) -> tuple[bytes, bytes]:
    """The bytes of ``line`` with its mac, and the mac."""
    mac = hmac.new(key, before + canonical(line), hashlib.sha256).digest()
    return json.dumps({**line, "mac": mac.hex()}, sort_keys=True, separators=(",", ":")).encode() + b"\n", mac


def _head(count: int, mac: bytes) -> bytes:
    return canonical({"count": count, "mac": mac.hex()})


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
