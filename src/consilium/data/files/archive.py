"""Reading an untrusted npz.

Sizes are known before anything is unpacked: the zip directory says how large each member becomes, its npy header what
shape that is, and the two must agree; so neither a zip bomb nor a false header takes the memory.  Pickle is never read.
"""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from consilium.core.errors import ConsiliumError, Refused

__all__ = ["MAX_BYTES", "array_names", "read_npz"]

MAX_BYTES = 4_000_000_000
_FLOAT32 = 4


def read_npz(path: Path, wanted: Collection[str], max_bytes: int = MAX_BYTES) -> dict[str, npt.NDArray[Any]]:
    """Those of the ``wanted`` arrays that ``path`` holds, by name.

    Refused: no zip, no such array, two of one name, a broken member, objects (pickle), or more than ``max_bytes`` as
    float32.

    Raises Refused: the file is no sound npz, or holds none of the arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if m.filename.removesuffix(".npy") in wanted]
            if not members:
                raise Refused(
                    f"{path} holds none of the arrays {', '.join(sorted(wanted))}",
                    remedy=f"it holds {', '.join(archive.namelist()) or 'nothing'}: store them under those names",
                )
            _check_once([m.filename.removesuffix(".npy") for m in members], path)
            _check_size(sum(m.file_size for m in members), max_bytes, path)
            _check_size(sum(_elements(archive, m, path) for m in members) * _FLOAT32, max_bytes, path)
            return {m.filename.removesuffix(".npy"): _array(archive, m) for m in members}
    except ConsiliumError:
        raise
    except Exception as error:  # zipfile and numpy raise many types on untrusted bytes
        raise Refused(
            f"{path} is not a sound npz file: {_line(error)}", remedy="fetch or write it again with numpy.savez"
        ) from error


def array_names(path: Path) -> tuple[str, ...]:
    """The names of the arrays in ``path``, none where it is no zip (reading it reports why)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return ()


def _check_once(names: Sequence[str], path: Path) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise Refused(
                f"{path} holds {count} arrays called {name!r}",
                remedy="which of them is meant cannot be known: write it again with numpy.savez",
            )


def _elements(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> int:
    with archive.open(member) as file:
        shape, dtype = _header(file)
        if dtype.hasobject:
            raise Refused(
                f"array {member.filename} holds Python objects, which are never read",
                remedy=_instead(member.filename.removesuffix(".npy")),
                where=str(path),
            )
        if file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"{member.filename} declares shape {shape}, which does not match its size")
    return math.prod(shape)


def _instead(name: str) -> str:
    """How array ``name`` can be stored without Python objects."""
    if name.rpartition("_")[2].casefold() in ("units", "keys", "columns"):
        return (
            f"store names as text: numpy.savez(path, ..., {name}=numpy.array([str(one) for one in {name}])); first "
            "name those that are None, or leave out their records"
        )
    kind = "int64" if name.rpartition("_")[2].casefold() in ("y", "labels") else "float32"
    return f"store numbers: numpy.savez(path, ..., {name}={name}.astype('{kind}'))"


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(member) as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _check_size(size: int, max_bytes: int, path: Path) -> None:
    if size > max_bytes:
        raise Refused(
            f"{path} becomes {size / 1e9:.1f} GB in memory, more than max-bytes = {max_bytes / 1e9:.1f} GB",
            remedy="raise max-bytes if this machine can hold it",
            where="max-bytes",
        )


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
