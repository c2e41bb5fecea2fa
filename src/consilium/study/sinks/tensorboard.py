"""TensorBoard: event files in OUT/<study>/tensorboard, one folder for each training and one for each cell.

A series that goes on is opened at the round after the last whole one; TensorBoard then drops what lies behind it.
What is held is read back from the event files themselves, so no second book has to agree with them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from .scalars import LAST
from .sink import Curve, Sink

__all__ = ["TensorBoard"]

_FLUSH = 2.0
_KEEP_ALL = {"scalars": 0}


class TensorBoard(Sink):
    """Writes event files; ``tensorboard --logdir OUT/<study>/tensorboard`` shows them."""

    kind = "tensorboard"

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder / "tensorboard"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._writer: Any = None
        self._here, self._from, self._flushed = self.folder, 0, 0.0

    def begin(self, curve: Curve, done: int) -> int:
        """The folder of ``curve``; a writer is made when there is something to write."""
        self.end(False)
        self._here = self.folder / curve.name
        self._from = min(_last(self._here), done)
        return self._from

    def write(self, number: int, values: Mapping[str, float], at: float) -> None:
        """One event for each scalar; on the disk within seconds."""
        if self._writer is None:
            self._writer = _writer(self._here, self._from + 1)
        for name, value in values.items():
            self._writer.add_scalar(name, value, number, at)
        if time.monotonic() - self._flushed > _FLUSH:
            self._writer.flush()
            self._flushed = time.monotonic()

    def end(self, finished: bool) -> None:
        """Close the file."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def final(self, cell: Curve, values: Mapping[str, float]) -> None:
        """One small file, made anew if the figures are others."""
        here = self.folder / "cells" / cell.name
        if _scalars(here) == {name: float(np.float32(value)) for name, value in values.items()}:
            return
        shutil.rmtree(here, ignore_errors=True)
        writer = _writer(here, None)
        for name, value in values.items():
            writer.add_scalar(name, value, 0)
        writer.close()

    def close(self) -> None:
        """Nothing stays open."""
        self.end(False)


def _writer(folder: Path, first: int | None) -> Any:
    return cast(Any, SummaryWriter)(str(folder), purge_step=first)


def _read(folder: Path) -> Any:
    events = EventAccumulator(str(folder), size_guidance=_KEEP_ALL)
    events.Reload()
    return events


def _last(folder: Path) -> int:
    """The last whole round; 0 without any."""
    if not folder.is_dir():
        return 0
    events = _read(folder)
    return max((event.step for event in events.Scalars(LAST)), default=0) if LAST in events.Tags()["scalars"] else 0


def _scalars(folder: Path) -> dict[str, float] | None:
    """As they stand; single precision, as TensorBoard keeps them."""
    if not folder.is_dir():
        return None
    events = _read(folder)
    return {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}
