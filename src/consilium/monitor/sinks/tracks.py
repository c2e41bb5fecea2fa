"""The sinks that a study names, written together; a failure is reported once, and no training fails by it.

A sink records one training at a time: of several that run side by side each has a sink of its own.

A sink receives the rounds that it lacks from ``rounds.jsonl``: after a kill, after a failure of its own, or
when it was named later than the training was made.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from consilium.core.errors import MissingExtra
from consilium.evidence.cell import CellEvidence
from consilium.monitor.epsilon_tracker import EpsilonSpent
from consilium.monitor.interrupt import check_interrupt

from .scalars import cell_scalars, round_scalars
from .sink import Curve, Sink

__all__ = ["SINKS", "Tracks", "require_sinks"]

SINKS: Mapping[str, str] = {"tensorboard": "TensorBoard", "mlflow": "MLflow"}
"""Kind (also the package it needs, and its file here) and class."""

_LONGEST = 300
_T = TypeVar("_T")


class Tracks:
    """Feeds every sink; without sinks it does nothing."""

    def __init__(self, kinds: Sequence[str], folder: Path, study: str, say: Callable[[str], None]) -> None:
        self._say, self._make = say, lambda kind: _new_sink(kind, folder, study)
        self._idle, self._busy = dict[str, list[Sink]](), dict[str, dict[str, Sink]]()
        for kind in kinds:
            sink = self._tried(kind, partial(self._make, kind))
            if sink is not None:
                self._idle[kind] = [sink]

    def __enter__(self) -> Tracks:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._busy):
            self._each(name, lambda sink: sink.close())
        for kind, sinks in list(self._idle.items()):
            for sink in sinks:
                self._tried(kind, sink.close)

    def __bool__(self) -> bool:
        return bool(self._idle)

    def begin(self, name: str, curve: Curve, before: Sequence[Mapping[str, Any]], ended: float) -> None:
        """A training that is called ``name`` until it ends.

        ``before`` are the reports of the rounds before now, the last of which ended at ``ended``.
        """

        def fill(sink: Sink) -> None:
            last, at = sink.begin(curve, len(before)), ended
            ends = []
            for report in reversed(before):
                ends.append(at)
                at -= report.get("seconds", 0.0)
            for report, end in zip(before, reversed(ends), strict=True):
                if report["round"] > last:
                    sink.write(report["round"], round_scalars(report), end)

        for kind in list(self._idle):
            sink = self._take(kind)
            if sink is not None:
                self._busy.setdefault(name, {})[kind] = sink
        self._each(name, fill)

    def round(self, name: str, report: Mapping[str, Any], spent: EpsilonSpent | None) -> None:
        """One more round of the training ``name``."""
        self._each(name, lambda sink: sink.write(report["round"], round_scalars(report, spent), time.time()))

    def end(self, name: str, finished: bool) -> None:
        """The training ``name`` is over, or failed."""
        self._each(name, lambda sink: sink.end(finished))
        for kind, sink in self._busy.pop(name, {}).items():
            if kind in self._idle:
                self._idle[kind].append(sink)

    def cell(self, curve: Curve, evidence: CellEvidence) -> None:
        """A cell's final figures."""
        for kind in list(self._idle):
            sink = self._take(kind)
            if sink is not None:
                self._tried(kind, partial(sink.final, curve, cell_scalars(evidence)))
                self._idle.get(kind, []).append(sink)

    def _take(self, kind: str) -> Sink | None:
        """A sink that draws nothing now."""
        idle = self._idle[kind]
        return idle.pop() if idle else self._tried(kind, partial(self._make, kind))

    def _each(self, name: str, act: Callable[[Sink], None]) -> None:
        for kind, sink in self._busy.get(name, {}).items():
            if kind in self._idle:
                self._tried(kind, partial(act, sink))

    def _tried(self, kind: str, act: Callable[[], _T]) -> _T | None:
        try:
            return act()
        except Exception as error:  # a full disk, a locked file, another version: it is a copy, and the run goes on
            check_interrupt()
            self._idle.pop(kind, None)
            why = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
            self._say(f"{kind} is left out from here: {why}; the next run fills in what is missing")
            return None


def require_sinks(kinds: Sequence[str]) -> None:
    """Refuse sinks whose package is not installed.

    Raises MissingExtra: the package of a sink is not installed.
    """
    for i, kind in enumerate(kinds):
        if find_spec(kind) is None:
            raise MissingExtra(f"{kind} is not installed", remedy='pip install "consilium[track]"', where=f"track[{i}]")


def _new_sink(kind: str, folder: Path, study: str) -> Sink:
    module = importlib.import_module(f"{__package__}.{kind}")
    sink: Sink = getattr(module, SINKS[kind])(folder, study)
    return sink
