"""The folder of the evidence: every file is replaced atomically, so a kill leaves the old or the new.

OUT/<study>/study.json   trainings/<digest>/   models/<digest>/   cells/<digest>/   table.csv   report.html
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from consilium.core import plain
from consilium.core.errors import Failed, Refused
from consilium.core.files import opened_to_lock, replace, unwritten
from consilium.core.plain import Json
from consilium.core.seal import file_digest, is_altered
from consilium.evidence.round import RoundReport

__all__ = ["Store", "is_trained", "read_rounds", "read_stored", "rounds_in", "write_json"]


_REMEDY = "put it back, or delete checkpoint.safetensors beside it to train again"
_FOLDERS = ("trainings", "models", "cells")
_ROUND = {"round": int, "seconds": int | float, "cohort": list, "refused": list, "bytes_up": int, "bytes_down": int}


@dataclass(frozen=True)
class Store:
    """A study's folder."""

    folder: Path

    @classmethod
    def of(cls, out: Path, study: str) -> Store:
        """``out``/``study``, made if it is not there.

        Raises Refused: the folder cannot be made.
        """
        store = cls(out / study)
        for name in _FOLDERS:
            place = store.folder / name
            try:
                place.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                remedy = "move away what is at this path" if place.parent.is_dir() else "choose another with --out"
                raise Refused(f"cannot make the folder {place}: {error.strerror}", remedy=remedy) from None
        return store

    def links(self) -> tuple[str, ...]:
        """A line for each of OUT, the study's folder and those in it that is a link, with where it leads."""
        places = (self.folder.parent, self.folder, *(self.folder / name for name in _FOLDERS))
        lead = "is a link, and what is written there is stored in"
        return tuple(f"{place} {lead} {place.resolve()}" for place in places if place.is_symlink())

    def training(self, digest: str) -> Path:
        """The folder of a training."""
        return self.folder / "trainings" / digest

    def model(self, digest: str) -> Path:
        """The folder of a model."""
        return self.folder / "models" / digest

    def cell(self, digest: str) -> Path:
        """The folder of a cell."""
        return self.folder / "cells" / digest

    def has_model(self, digest: str) -> bool:
        """True if a model and its recipe are stored."""
        return all((self.model(digest) / name).is_file() for name in ("model.safetensors", "recipe.json"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One run at a time; the lock dies with its process, so a killed run leaves none.

        Raises Refused: another run writes to the folder.
        """
        with self._lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(
                    f"another run is writing to {self.folder}", remedy="wait for it, or choose another --out"
                ) from None
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Any number of workers at a time and no run, as far as this file system has locks.

        Raises Refused: a run writes to the folder.
        """
        with self._lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(f"a run is writing to {self.folder}", remedy="wait for it") from None
            except OSError:  # there are none: leases are what counts between machines
                pass
            yield

    def _lock(self) -> IO[bytes]:
        path = self.folder / ".lock"
        try:
            return opened_to_lock(path)
        except OSError as error:
            raise Refused(f"{path} cannot be locked: {error.strerror}", remedy="remove it, or fix its rights") from None


def is_trained(store: Store, digest: str) -> bool:
    """True if a training is done and its last state is there; a record that cannot be read, or was changed, is none."""
    folder = store.training(digest)
    try:
        record = read_stored(folder / "training.json") or {}
    except Failed:
        return False
    done = record.get("status") == "ok" and record.get("digest", digest) == digest and not is_altered(record)
    return done and (folder / "checkpoint.safetensors").is_file()


def read_rounds(store: Store, training: str) -> list[RoundReport]:
    """The report of every round of a finished training: who took part, what was sent, how long it took.

    Raises Failed: the record of the rounds was changed or is not readable.
    """
    reports = rounds_in(store.training(training))
    path = store.training(training) / "rounds.jsonl"
    seals = (read_stored(path.with_name("training.json")) or {}).get("seals")
    if isinstance(seals, dict) and seals.get(path.name) not in (None, file_digest(path)):
        reason = f"{path}, the record of who took part in the training, was changed after it was written"
        raise Failed(reason, remedy=_REMEDY)
    return reports


def rounds_in(folder: Path) -> list[RoundReport]:
    """The same of the training in ``folder``; `Failed` where a line cannot be read.

    Raises Failed: a line is not readable.
    """
    path = folder / "rounds.jsonl"
    try:
        lines = [line for _, line in plain.read_json_lines(path)]
    except OSError as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"is not readable: {error.strerror}"
        raise Failed(f"{path}, the record of who took part in the training, {reason}", remedy=_REMEDY) from error
    whole = [line for line in lines if line is not None and _is_report(line)]
    if len(whole) < len(lines):
        number = next(i for i, line in enumerate(lines, 1) if line is None or not _is_report(line))
        reason = f"line {number} of {path}, the record of who took part in the training, is not readable"
        raise Failed(reason, remedy=_REMEDY)
    return list(whole)


def _is_report(line: Mapping[str, Any]) -> bool:
    return all(isinstance(line.get(name), kind) for name, kind in _ROUND.items())


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``data`` beside its place and move it there.

    Raises Failed: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, (plain.json_text(data, indent=1) + "\n").encode())
    except OSError as error:
        raise Failed(f"cannot write {path}: {error.strerror}", remedy=unwritten(error)) from error


def read_stored(path: Path) -> dict[str, Json] | None:
    """What :func:`write_json` wrote; None if there is nothing; `Failed` where the path holds something else.

    Raises Failed: the file is not readable.
    """
    try:
        return plain.read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Failed(f"{path} is not readable: {why}", remedy="delete it to make it again") from error
