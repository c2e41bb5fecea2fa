"""Progress of long work: what is running, how far it is, and when it will be done.

On a terminal a live table, elsewhere plain lines: one for every finished training, and in between one every few
seconds; in a notebook one line that is written over.  All of it goes to standard error, so that standard output holds
results alone.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live

from consilium.core.terminal import one_line

from .epsilon_tracker import EpsilonSpent
from .eta import Kind, Pace
from .interrupt import check_interrupt
from .live_table import Board, Boards
from .notebook_line import notebook_line
from .round_summary import attendance, troubled_sites
from .screen import Visible
from .stragglers import Lateness

__all__ = ["Lane", "Planning", "Ticker"]

_EVERY, _IN_NOTEBOOK = 10.0, 1.0
_PATIENCE, _PLANNING, _MANY = 2.0, 5.0, 30
_REFRESH = 2
"""Draws a second: often enough to be read, and too seldom to be felt."""


class Planning:
    """Reports the progress of a plan of many arms that takes more than two seconds: a line every five."""

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, quiet=quiet)
        self._next = time.monotonic() + _PATIENCE

    def __call__(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` are done of the step ``what``."""
        check_interrupt()
        if total >= _MANY and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLANNING
            self._console.print(f"planning: {done} of {total} {what}", highlight=False, markup=False, soft_wrap=True)


class Ticker:
    """Reports the progress of ``total`` pieces of work, kind by kind; concurrent work has a lane each."""

    def __init__(
        self, total: Mapping[Kind, int], quiet: bool = False, console: Console | None = None, workers: int = 1
    ) -> None:
        self.console = console or Console(stderr=True, quiet=quiet)
        self.pace = Pace(total, workers)
        self.boards = Boards(self.pace)
        self._last, self._knew, self._lanes = -math.inf, False, dict[str, Lane]()
        self.live = None
        self._line = None if quiet else notebook_line()
        if not quiet and self.console.is_terminal and not self.console.is_dumb_terminal:
            alone = workers == 1  # a thread that draws could hold the stream's lock while a worker is forked
            self.live = Live(
                Visible(self.boards),
                console=self.console,
                auto_refresh=alone,
                refresh_per_second=_REFRESH,
                transient=True,
            )

    def __enter__(self) -> Ticker:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()
        if self._line is not None and self._last > -math.inf:
            self._line(
                f"[{self.pace.done}/{self.pace.total}] {'done' if self.pace.done == self.pace.total else 'stopped'}"
            )
        sys.stderr.flush()

    def say(self, line: str) -> None:
        """One line that stays."""
        self.console.print(one_line(line), highlight=False, markup=False, soft_wrap=True)

    def refresh(self) -> None:
        """Draw the table, where several run and no thread does."""
        if self.live is not None and not self.live.auto_refresh:
            self.live.refresh()

    def lane(self, name: str = "") -> Lane:
        """Where the work ``name`` is shown while it runs."""
        if name not in self._lanes:
            self._lanes[name] = Lane(self, self.boards.add(name))
        return self._lanes[name]

    def end(self, name: str) -> None:
        """The work ``name`` does not run any more; it is shown until something else is."""
        if self._lanes.pop(name, None) is not None:
            self.boards.end(name)

    def skip(self, kind: Kind, times: int = 1) -> None:
        """``times`` pieces of work were found done, or will never be done."""
        check_interrupt()
        self.pace.count(kind, None, times)

    def plain(self, what: str) -> None:
        """A line of how far everything is, where there is no table and the last one is some seconds old."""
        remaining = self.pace.left()
        first = remaining.whole and not self._knew  # the time is reported as soon as it is known
        pause, write = (_EVERY, self.say) if self._line is None else (_IN_NOTEBOOK, self._line)
        if self.live is None and (first or time.monotonic() - self._last > pause):
            self._last, self._knew = time.monotonic(), remaining.whole
            write(one_line(f"[{self.pace.done}/{self.pace.total}] {what}; {remaining}"))

    def rest(self, line: str) -> None:
        """A line that stays, in place of the next one of how far everything is."""
        self.say(line)
        self._last = time.monotonic()


class Lane:
    """One piece of work that runs, beside others or alone."""

    def __init__(self, ticker: Ticker, board: Board) -> None:
        self.board = board
        self._ticker, self._since = ticker, time.monotonic()
        self._refused: set[tuple[str, str]] = set()
        self._late = Lateness(ticker.say)

    def begin(self, what: str, rounds: int = 0) -> None:
        """``what`` is running from now on; ``rounds`` if it is a training."""
        check_interrupt()
        self.board.show(what, rounds)
        self._late = Lateness(self._ticker.say)
        self._since = time.monotonic()

    def did(self, kind: Kind) -> None:
        """One piece of what is running is done."""
        check_interrupt()
        self._time(kind)
        self._ticker.plain(self.board.running)

    def round(self, kind: Kind, report: Mapping[str, Any], spent: EpsilonSpent | None = None) -> None:
        """One federated round is done."""
        check_interrupt()
        self._time(kind)
        self.board.after(report, spent)
        self._tell_refused(report)
        self._ticker.plain(f"{self.board.line()}; {attendance(report)}")

    def waits(self, question: str, sites: Sequence[str], seconds: float) -> None:
        """``question`` has been waiting for ``sites`` for so many seconds; for none when all have answered."""
        check_interrupt()
        self.board.waits(question, sites, seconds)
        if self._ticker.live is None:
            self._late(question, sites, seconds)

    def trained(self) -> None:
        """The running training is over: its last round stays as a line."""
        if self.board.report is not None:
            self._ticker.rest(self.board.line())

    def _time(self, kind: Kind) -> None:
        now = time.monotonic()
        self._ticker.pace.count(kind, now - self._since)
        self._since = now

    def _tell_refused(self, report: Mapping[str, Any]) -> None:
        """A refused update is no part of the plan: the first of each site stays as a line."""
        for site, reason in troubled_sites(report, "refused").items():
            if (self.board.running, site) not in self._refused:
                self._refused.add((self.board.running, site))
                line = f"{self.board.running}, round {report['round']}: the update of {site} was refused: {reason}"
                self._ticker.say(line)
