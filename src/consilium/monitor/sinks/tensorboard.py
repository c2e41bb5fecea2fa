"""TensorBoard: event files in OUT/<study>/tensorboard, one folder for each training and one for each cell.

A file is a sequence of records, each one Event with the scalars of a round, so that a round is there whole or not at
all.  A series that goes on opens another file with a session that starts after the last round; TensorBoard drops what
lies behind that.  The last round is read from the files themselves, not from a second record.
Files are numbered; TensorBoard's own writer would put the machine's name into theirs.

Source: the format of TensorBoard's `event.proto` and `RecordWriter`.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .scalars import LAST
from .sink import Curve, Sink

__all__ = ["TensorBoard"]

_FORMAT = "brain.Event:2"
_KEEP_ALL = {"scalars": 0}


class TensorBoard(Sink):
    """Writes event files; ``tensorboard --logdir OUT/<study>/tensorboard`` shows them."""

    kind = "tensorboard"

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder / "tensorboard"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._events: _Events | None = None
        self._here, self._held = self.folder, 0

    def begin(self, curve: Curve, done: int) -> int:
        """The folder of ``curve``; a file is made when there is something to write."""
        self.end(False)
        self._here = self.folder / curve.name
        self._held = min(_last(self._here), done)
        return self._held

    def write(self, number: int, values: Mapping[str, float], at: float) -> None:
        """One event, on the disk when this returns."""
        if self._events is None:
            self._events = _Events(self._here, self._held + 1)
        self._events.add(number, values, at)

    def end(self, finished: bool) -> None:
        """Close the file."""
        if self._events is not None:
            events, self._events = self._events, None
            events.close()

    def final(self, cell: Curve, values: Mapping[str, float]) -> None:
        """One small file, rewritten if the figures changed."""
        here = self.folder / "cells" / cell.name
        if _scalars(here) != {name: float(np.float32(value)) for name, value in values.items()}:
            shutil.rmtree(here, ignore_errors=True)
            events = _Events(here, 0)
            events.add(0, values, time.time())
            events.close()

    def close(self) -> None:
        """Nothing stays open."""
        self.end(False)


class _Events:
    """One event file in ``folder``, for steps from ``first`` on."""

    def __init__(self, folder: Path, first: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = event_pb2, summary_pb2
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("events.*")))
        self._file = (folder / f"events.out.tfevents.{number:06d}").open("xb")
        self._records = RecordWriter(self._file)
        self._put(wall_time=time.time(), file_version=_FORMAT)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._put(wall_time=time.time(), step=first, session_log=start)

    def add(self, step: int, values: Mapping[str, float], at: float) -> None:
        """All scalars of one step."""
        summary = self._summary.Summary
        scalars = [summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._put(wall_time=at, step=step, summary=summary(value=scalars))
        self._file.flush()

    def close(self) -> None:
        """No more events."""
        self._file.close()

    def _put(self, **event: Any) -> None:
        self._records.write(self._event.Event(**event).SerializeToString())


def _read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # that it drops rounds trained again is meant
    events = EventAccumulator(str(folder), size_guidance=_KEEP_ALL)
    events.Reload()
    return events


def _last(folder: Path) -> int:
    """The last round that is there; 0 without any."""
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
