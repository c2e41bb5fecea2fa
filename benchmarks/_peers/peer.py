"""What the benchmark asks of an engine: rounds, their seconds, and the accuracy of the model."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Peer(ABC):
    """An engine at work on one job; rounds go on where the last call ended."""

    @abstractmethod
    def run(self, rounds: int) -> float:
        """Train ``rounds`` more rounds without any evaluation; the seconds they took."""

    @abstractmethod
    def accuracy(self) -> float:
        """Of the present model on the job's test records."""

    def about(self) -> str:
        """What it chose or was given, in a few words."""
        return ""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of processes."""
