"""Where evidence lies, and how it is written: every file is replaced atomically, so a kill leaves the old or the new.

OUT/<study>/study.json   trainings/<digest>/   models/<digest>/   cells/<digest>/   table.csv   report.html
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consilium.core.errors import Failed, Refused
from consilium.core.seal import file_digest, is_altered

__all__ = ["Store", "is_trained", "read_json", "read_rounds", "write_json"]


@dataclass(frozen=True)
class Store:
    """A study's folder."""

    folder: Path

    @classmethod
    def of(cls, out: Path, study: str) -> Store:
        """``out``/``study``, made if it is not there."""
        store = cls(out / study)
        try:
            for name in ("trainings", "models", "cells"):
                (store.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(
                f"cannot make the folder {store.folder}: {error.strerror}", remedy="choose another with --out"
            ) from None
        return store

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
        """One run at a time; the lock dies with its process, so a killed run leaves none."""
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(
                    f"another run is writing to {self.folder}", remedy="wait for it, or choose another --out"
                ) from None
            yield


def is_trained(store: Store, digest: str) -> bool:
    """True if a training is done and its last state is there; a record that cannot be read, or was changed, is none."""
    folder = store.training(digest)
    try:
        record = read_json(folder / "training.json") or {}
    except Failed:
        return False
    return record.get("status") == "ok" and not is_altered(record) and (folder / "checkpoint.safetensors").is_file()


def read_rounds(store: Store, training: str) -> list[Mapping[str, Any]]:
    """The report of every round of a finished training: who took part, what was sent, how long it took."""
    path = store.training(training) / "rounds.jsonl"
    what = f"{path}, which says who took part in the training,"
    remedy = "put it back, or delete checkpoint.safetensors beside it to train again"
    try:
        reports = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"is not readable: {error}"
        raise Failed(f"{what} {reason}", remedy=remedy) from error
    seals = (read_json(path.with_name("training.json")) or {}).get("seals")
    if isinstance(seals, dict) and seals.get(path.name) not in (None, file_digest(path)):
        raise Failed(f"{what} was changed after it was written", remedy=remedy)
    return reports


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``data`` beside its place and move it there."""
    draft = path.with_name(path.name + ".draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise Failed(
            f"cannot write {path}: {error.strerror}", remedy="free disk space and run again; nothing finished is lost"
        ) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """What :func:`write_json` wrote; None if there is nothing."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Failed(f"{path} is not readable: {error}", remedy="delete it to make it again") from error
    return data if isinstance(data, dict) else None
