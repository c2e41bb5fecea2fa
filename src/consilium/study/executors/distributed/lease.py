"""A lease on a stage: one worker at a time, on any file system that several machines share.

    <folder>/leases/<key>.json    {owner, place, pid, born, count}

It is made by linking a finished file to its name, which fails where the name is taken, and is renewed by replacing it
every few seconds with a higher count.  An observer takes it for dead when its content has not changed for
``patience`` seconds of the observer's own clock, so clocks need not agree; or at once, when it is of this machine and
its process is gone.  A dead lease is stolen by replacing it, waiting a moment, and reading it again: it is the
stealer's if it is still the stealer's.  An owner that could not renew for half of ``patience`` gives up by itself.

No lock of the file system is used: NFS and Lustre have them or not, as they were mounted.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from consilium.core.errors import Failed
from consilium.core.files import read_bytes, unwritten

__all__ = ["PATIENCE", "Lease", "LeaseLost", "Leases", "Observed"]

PATIENCE = 120.0
"""Seconds: above the minute for which NFS may show an old directory."""
_RENEWALS = 12
"""In the time after which a lease is dead."""


class LeaseLost(BaseException):
    """Another worker has the stage.  No Exception: whoever records failures must not take it for one."""


@dataclass(frozen=True)
class _Content:
    """What stands in the file: ``born`` is when the process started, in the machine's own ticks."""

    owner: str
    place: str
    pid: int
    born: str
    count: int = 0

    def to_bytes(self) -> bytes:
        """JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def of(cls, data: bytes) -> _Content | None:
        """None where it cannot be read: such a file is as any other that does not change."""
        with contextlib.suppress(ValueError, TypeError):
            return cls(**json.loads(data))
        return None

    def is_gone(self) -> bool:
        """Whether its process was of this machine and has ended."""
        return self.place == _place() and _born(self.pid) != self.born


@dataclass
class Observed:
    """The leases of others as this worker saw them: since when none of them has changed, by its own ``clock``."""

    patience: float = PATIENCE
    clock: Callable[[], float] = time.monotonic
    _seen: dict[Path, tuple[bytes, float]] = field(default_factory=dict)

    def is_dead(self, path: Path) -> bool:
        """Whether nobody renews the lease at ``path``; call it again later where it is not."""
        data, now = _read(path), self.clock()
        if data is None:
            self._seen.pop(path, None)
            return True
        content = _Content.of(data)
        if content is not None and content.is_gone():
            return True
        before, since = self._seen.get(path, (None, now))
        if before != data:
            since = now
        self._seen[path] = data, since
        return now - since > self.patience


class Lease:
    """A lease that this worker has; a thread renews it until it is given back or lost."""

    def __init__(self, path: Path, content: _Content, patience: float) -> None:
        self.path, self._content, self._patience = path, content, patience
        self._ended, self._lost = threading.Event(), threading.Event()
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._renew_until_ended, name=f"lease {path.stem}", daemon=True)

    @property
    def owner(self) -> str:
        """The name of this worker in the file."""
        return self._content.owner

    def check(self) -> None:
        """Raise LeaseLost where it is not this worker's any more."""
        if self._lost.is_set() or not self.is_own():
            self._lost.set()
            raise LeaseLost(f"another worker has {self.path.stem}")

    def is_own(self) -> bool:
        """Whether this worker's name stands in the file and it was renewed in time."""
        content = _Content.of(_read(self.path) or b"")
        late = time.monotonic() - self._renewed > self._patience / 2
        return not late and content is not None and content.owner == self._content.owner

    def renew(self) -> bool:
        """Say once more that this worker is there; False where another has it."""
        if not self.is_own():
            return False
        self._content = replace(self._content, count=self._content.count + 1)
        _put(self.path, self._content)
        self._renewed = time.monotonic()
        return True

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back, if it is still this worker's."""
        self._ended.set()
        self._thread.join()
        if not self._lost.is_set() and self.is_own():
            self.path.unlink(missing_ok=True)

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(self._patience / _RENEWALS):
            with contextlib.suppress(OSError):  # a file system that is away for a moment: it is late, or comes back
                if not self.renew():
                    self._lost.set()
                    return


@dataclass(frozen=True, eq=False)
class Leases:
    """The leases of one study's folder, as one worker takes them; ``pause`` is the moment after a theft."""

    folder: Path
    observed: Observed = field(default_factory=Observed)
    pause: float = 0.5

    def path(self, key: str) -> Path:
        """Where the lease of the stage ``key`` lies."""
        return self.folder / "leases" / f"{key}.json"

    def claim(self, key: str) -> Lease | None:
        """The lease of ``key``; None where another worker has it.

        Raises Failed: it cannot be written.
        """
        path, content = self.path(key), _Content(secrets.token_hex(8), _place(), os.getpid(), _born(os.getpid()))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if _link(path, content) or (self.observed.is_dead(path) and self._stolen(path, content)):
                return Lease(path, content, self.observed.patience)
        except OSError as error:
            raise Failed(f"cannot write {path}: {error.strerror}", remedy=unwritten(error)) from error
        return None

    def taken(self) -> list[str]:
        """What somebody has, or had when it was killed."""
        return sorted(path.stem for path in (self.folder / "leases").glob("*.json"))

    def clear(self, spare: Collection[str] = ()) -> None:
        """Remove what dead workers left, where nothing is left to do: leases, and drafts of others than ``spare``."""
        for key in self.taken():
            if self.observed.is_dead(self.path(key)):
                self.path(key).unlink(missing_ok=True)
        for draft in (self.folder / "leases").glob(".*.draft"):  # of one that was killed as it wrote
            if draft.name[1:].partition(".json.")[0] not in spare:
                draft.unlink(missing_ok=True)

    def dies(self, key: str) -> bool:
        """Watch a lease until it is renewed (False), or is dead."""
        path = self.path(key)
        before = _read(path)
        while not self.observed.is_dead(path):
            if _read(path) != before or _own_machine(before):
                return False
            time.sleep(min(self.pause, self.observed.patience / _RENEWALS))
        return True

    def _stolen(self, path: Path, content: _Content) -> bool:
        if _read(path) is None:  # given back in the meantime
            return _link(path, content)
        _put(path, content)
        time.sleep(self.pause)
        current = _Content.of(_read(path) or b"")
        return current is not None and current.owner == content.owner


def _own_machine(data: bytes | None) -> bool:
    """Whether a lease is of this machine: its process, which is not gone, is there."""
    content = _Content.of(data or b"")
    return content is not None and content.place == _place()


def _read(path: Path) -> bytes | None:
    """None where there is none; an unreadable one has an empty content that never changes."""
    try:
        return read_bytes(path, 1 << 16)
    except FileNotFoundError:
        return None
    except OSError:
        return b""


def _drafted(path: Path, content: _Content) -> Path:
    """A finished file beside ``path``, whole and on the disk before it has the name."""
    draft = path.with_name(f".{path.name}.{content.owner}.draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(handle, "wb") as file:
        file.write(content.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    return draft


def _put(path: Path, content: _Content) -> None:
    _drafted(path, content).replace(path)


def _link(path: Path, content: _Content) -> bool:
    """Give ``path`` this content unless there is one; a file system without links makes an empty file first."""
    draft = _drafted(path, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        return _created(path, draft)
    finally:
        draft.unlink(missing_ok=True)
    return True


def _created(path: Path, draft: Path) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        return False
    draft.replace(path)
    return True


def _place() -> str:
    """A machine and a view of its processes, in 16 digits: where they are equal a pid means the same process."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _born(pid: int) -> str:
    """When a process of this machine started; empty where there is none (a number may be given again)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = text.rpartition(")")[2].split()
        return "" if state == "Z" else rest[18]
    except (OSError, IndexError, ValueError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:  # no /proc: that it is there must do
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "there"
