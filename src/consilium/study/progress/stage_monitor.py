"""Where the events of all stages arrive: the terminal and the sinks of the process that a person looks at.

Rounds that an earlier run did are read from ``rounds.jsonl``, so that a curve is whole whoever draws it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from consilium.core.plain import numeric_member, read_json_lines
from consilium.evidence.cell import CellEvidence
from consilium.monitor.progress import Ticker
from consilium.monitor.sinks.tracks import Tracks
from consilium.study.evaluate.shadow_training import shadows_wanted
from consilium.study.plan.nodes import CellNode
from consilium.study.plan.plan import Plan
from consilium.study.store.store import Store

from .callbacks import cell_curve, shadow_kind
from .events import (
    Began,
    CurveBegan,
    CurveEnded,
    Event,
    Message,
    PieceDone,
    RoundDone,
    ShadowDone,
    ShadowsOver,
    Skipped,
    Tell,
    TrainingDone,
    Waiting,
)

__all__ = ["Monitor"]


class Monitor:
    """Shows what the stages of one plan tell, each under its key."""

    def __init__(self, plan: Plan, store: Store, ticker: Ticker, tracks: Tracks) -> None:
        self._plan, self._store, self._ticker, self._tracks = plan, store, ticker, tracks
        self._owed = shadows_wanted(plan)

    def with_tracks(self, tracks: Tracks) -> Monitor:
        """The same terminal, and these sinks."""
        return Monitor(self._plan, self._store, self._ticker, tracks)

    def teller(self, key: str) -> Tell:
        """What the stage ``key`` tells its events to."""
        return partial(self.note, key)

    def note(self, key: str, event: Event) -> None:
        """Show one event of the stage ``key``."""
        lane = self._ticker.lane(key)
        match event:
            case Began(what, rounds):
                lane.begin(what, rounds)
            case Skipped(kind, times):
                self._ticker.skip(kind, times)
            case PieceDone(kind):
                lane.did(kind)
            case RoundDone(kind, report, spent):
                lane.round(kind, report, spent)
                self._tracks.round(key, report, spent)
            case TrainingDone():
                lane.trained()
            case Waiting(question, sites, seconds):
                lane.waits(question, sites, seconds)
            case Message(text):
                self._ticker.say(text)
            case ShadowDone(training) | ShadowsOver(training):
                self._shadows(key, training, over=isinstance(event, ShadowsOver))
            case CurveBegan(curve, done) if self._tracks:
                log = self._store.training(curve.digest) / "rounds.jsonl"
                self._tracks.begin(key, curve, *_before(log, done))
            case CurveEnded(finished):
                self._tracks.end(key, finished)

    def cell(self, cell: CellNode, evidence: CellEvidence) -> None:
        """A cell is judged and attacked, in this run or before it."""
        self._tracks.cell(cell_curve(cell), evidence)

    def end(self, key: str) -> None:
        """The stage ``key`` does not run any more."""
        self._ticker.end(key)

    def refresh(self) -> None:
        """Draw what is shown."""
        self._ticker.refresh()

    def say(self, line: str) -> None:
        """One line that stays."""
        self._ticker.say(line)

    def _shadows(self, key: str, training: str, *, over: bool) -> None:
        kind = shadow_kind(self._plan.trainings[training])
        if over:  # the attacks have seen what they need
            if owed := self._owed.pop(training, 0):
                self._ticker.skip(kind, owed)
            return
        if self._owed.get(training):
            self._owed[training] -= 1
        self._ticker.lane(key).did(kind)


def _before(path: Path, done: int) -> tuple[list[Mapping[str, Any]], float]:
    """Reports of the first ``done`` rounds, and when the last of them ended; what is not there is left out."""
    try:
        lines = [report for _, report in read_json_lines(path) if report is not None]
        ended = path.stat().st_mtime - sum(
            numeric_member(line, "seconds") for line in lines if numeric_member(line, "round") > done
        )
        return [line for line in lines if numeric_member(line, "round") <= done], ended
    except (OSError, KeyError, TypeError):
        return [], 0.0
