"""What a stage says while it runs, wherever it runs: values that a pipe can carry to whoever shows them.

The stage tells; the process that a person looks at shows it on the terminal and hands it to the sinks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from consilium.evidence.round import RoundReport
from consilium.monitor.epsilon_tracker import EpsilonSpent
from consilium.monitor.eta import Kind
from consilium.monitor.sinks.sink import Curve

__all__ = [
    "Began",
    "CurveBegan",
    "CurveEnded",
    "Event",
    "Message",
    "PieceDone",
    "RoundDone",
    "ShadowDone",
    "ShadowsOver",
    "Skipped",
    "Tell",
    "TrainingDone",
    "Waiting",
]


@dataclass(frozen=True)
class Began:
    """``what`` is running from now on; ``rounds`` if it is a training."""

    what: str
    rounds: int = 0


@dataclass(frozen=True)
class Skipped:
    """``times`` pieces of work were found done, or will never be done."""

    kind: Kind
    times: int = 1


@dataclass(frozen=True)
class PieceDone:
    """One piece of what is running is done."""

    kind: Kind


@dataclass(frozen=True)
class RoundDone:
    """One federated round is done: its line of ``rounds.jsonl`` and, where it is known, what it has spent."""

    kind: Kind
    report: RoundReport
    spent: EpsilonSpent | None = None


@dataclass(frozen=True)
class TrainingDone:
    """The running training is over: its last round stays as a line."""


@dataclass(frozen=True)
class ShadowDone:
    """One more shadow of ``training`` is trained."""

    training: str


@dataclass(frozen=True)
class ShadowsOver:
    """A cell of ``training`` was attacked: its shadows are there, or will never be."""

    training: str


@dataclass(frozen=True)
class Message:
    """One line that stays."""

    text: str


@dataclass(frozen=True)
class Waiting:
    """``question`` waits for ``sites`` for so many seconds; for none when all have answered."""

    question: str
    sites: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class CurveBegan:
    """The rounds that follow are those of ``curve``; ``done`` of them are over."""

    curve: Curve
    done: int


@dataclass(frozen=True)
class CurveEnded:
    """No more rounds of the curve come in this run."""

    finished: bool


Event = (
    Began
    | Skipped
    | PieceDone
    | RoundDone
    | TrainingDone
    | ShadowDone
    | ShadowsOver
    | Message
    | Waiting
    | CurveBegan
    | CurveEnded
)
"""Anything of the above."""

Tell = Callable[[Event], None]
"""Takes an event to where it is shown."""
