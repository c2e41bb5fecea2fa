"""Files as they are opened and replaced: only what is a regular file is read, and nothing is written through a link.

A FIFO, a socket or a device would let a reader wait for ever, or never end; it is refused by name, at once.  A new file
is written beside its place, is on disk, and then takes that place: a kill or a full disk leaves the old file whole, and
an existing link is replaced, not followed.  A *folder* that is a link is followed: it is how models are put on
another disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, BinaryIO

__all__ = [
    "drafted",
    "opened",
    "opened_to_append",
    "opened_to_fill",
    "opened_to_lock",
    "read_bytes",
    "regular",
    "replace",
    "unwritten",
]

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def opened(path: Path) -> BufferedReader:
    """``path`` to be read; an OSError that names the file type where it is no regular file."""
    # Without O_NONBLOCK, opening a FIFO would wait for a writer; for regular files the flag has no effect.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return os.fdopen(_checked(handle, path), "rb")


def regular(path: Path) -> Path:
    """``path`` itself, if it is a regular file now: for readers that open by name, such as safetensors and zipfile.

    A process that can write into its folder could replace it by a FIFO before it is opened; :func:`opened` prevents
    this.
    """
    opened(path).close()
    return path


def read_bytes(path: Path, most: int = 1 << 32) -> bytes:
    """All of a regular file of at most ``most`` bytes, whatever size is reported; an OSError for a larger one."""
    with opened(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return data


@contextmanager
def drafted(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """An empty new file beside ``path``, to be filled; it takes the place of ``path`` when the block ends well."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)  # of a killed run, or a link
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode))
        yield draft
        _synchronise(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def replace(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Put ``data`` in the place of ``path``: the old file or the new one is there, also after a kill."""
    with drafted(path, mode) as draft, os.fdopen(os.open(draft, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as f:
        f.write(data)


def unwritten(error: Exception) -> str:
    """What to do where a file could not be written."""
    if isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
        return "move away what is at this path and run again; nothing finished is lost"
    return "free disk space and run again; nothing finished is lost"


def opened_to_append(path: Path) -> BinaryIO:
    """``path`` to be added to, made if it is not there; an OSError where it is a link or no regular file."""
    return os.fdopen(_written(path, os.O_WRONLY | os.O_APPEND), "ab")


def opened_to_fill(path: Path) -> BinaryIO:
    """``path`` to be written over from its first byte, made if it is not there; likewise."""
    return os.fdopen(_written(path, os.O_RDWR), "r+b")


def opened_to_lock(path: Path, mode: int = 0o666) -> IO[bytes]:
    """``path`` to hold a lock on, made if it is not there and never emptied; likewise."""
    return os.fdopen(_written(path, os.O_RDWR, mode), "r+b", buffering=0)


def _written(path: Path, flags: int, mode: int = 0o666) -> int:
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return _checked(os.open(path, flags, mode), path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, and links are not written through", str(path)) from None
        raise


def _checked(handle: int, path: Path) -> int:
    kind = stat.S_IFMT(os.fstat(handle).st_mode)
    if kind == stat.S_IFREG:
        return handle
    os.close(handle)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a file", str(path))


def _synchronise(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
