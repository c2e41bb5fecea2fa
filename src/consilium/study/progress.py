"""Progress of long work: what is running, how far it is, and when it will be done.

On a terminal a live line, elsewhere one plain line per finished stage.  Everything goes to standard error, so that
standard output holds results alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .stop import check

__all__ = ["Ticker"]


class Ticker:
    """Counts steps of work (rounds and findings) against a known total."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.total, self.done, self.began, self._last = total, 0, time.monotonic(), 0.0
        self.live = None
        if not quiet and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self.live = Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True)
            self.task = self.live.add_task("starting", total=total)

    def __enter__(self) -> Ticker:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()
        sys.stderr.flush()

    def say(self, line: str) -> None:
        """One line that stays."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def step(self, what: str, steps: int = 1) -> None:
        """``steps`` more are done; ``what`` is running."""
        check()
        self.done += steps
        if self.live is not None:
            self.live.update(self.task, description=what, advance=steps)
        elif time.monotonic() - self._last > 10:
            self._last = time.monotonic()
            self.say(f"[{self.done}/{self.total}] {what}; about {self._left():.0f} s left")

    def round(self, label: str, report: Mapping[str, Any]) -> None:
        """One federated round is done."""
        accuracy = report["mean_accuracy"]
        told = "" if accuracy is None else f", accuracy {accuracy:.3f}"
        self.step(f"training {label}: round {report['round']}{told}")

    def _left(self) -> float:
        spent = time.monotonic() - self.began
        return spent / max(1, self.done) * max(0, self.total - self.done)
