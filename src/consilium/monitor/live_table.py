"""The live table of a run, as text that fits the terminal it is drawn on.

What is running, the last round in one line, epsilon spent, every site's figures and how it took part; with many sites
the worst of them by name and the quantiles of all.  Of several that run side by side each is one line.  Words carry
the meaning: colour only repeats it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consilium.core.count_words import count_words

from .epsilon_tracker import EpsilonSpent
from .eta import Pace
from .round_summary import SiteRow, attendance, bytes_line, figure, round_line, site_rows
from .stragglers import waiting_line

__all__ = ["Board", "Boards"]

_MOST_ROWS = 12
_WORST = 5
_NARROW = 60
_MOST_LINES = 20
"""Of what runs side by side; more are counted."""
_SOON = 2.0
"""Seconds after which a wait is shown."""


@dataclass
class Board:
    """What the table shows; a renderable for `rich.live.Live`, drawn anew each time."""

    pace: Pace
    running: str = "starting"
    rounds: int = 0
    report: Mapping[str, Any] | None = None
    judged: Mapping[str, Any] | None = None
    spent: EpsilonSpent | None = None
    began: float = field(default_factory=time.monotonic)
    waiting: str = ""

    def show(self, running: str, rounds: int = 0) -> None:
        """Something else is running: a training of ``rounds`` rounds, or what has none."""
        if running != self.running:
            self.running, self.rounds = running, rounds
            self.report, self.judged, self.spent, self.waiting = None, None, None, ""

    def after(self, report: Mapping[str, Any], spent: EpsilonSpent | None) -> None:
        """A round is done; sites without figures in this round keep their last ones."""
        self.report, self.spent, self.waiting = report, spent, ""
        if report.get("sites"):
            self.judged = report

    def waits(self, question: str, sites: Sequence[str], seconds: float) -> None:
        """A question waits for ``sites``; for none at its end."""
        self.waiting = waiting_line(question, sites, seconds) if sites and seconds >= _SOON else ""

    def line(self) -> str:
        """What is running and its last round, in one line."""
        if self.report is None:
            return self.running
        parts = (round_line(self.report, self.rounds), bytes_line(self.report), str(self.spent or ""))
        return f"{self.running}: {', '.join(part for part in parts if part)}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield Text(self.running, style="bold")
        if self.waiting:
            yield Text(self.waiting, style="yellow")
        if self.report is not None:
            yield Text(round_line(self.report, self.rounds))
            yield Text(bytes_line(self.report))
            if self.spent is not None:
                yield Text(str(self.spent))
            yield from self._by_site(self.report, width)
        yield from _foot(self.pace, self.began, width)

    def _by_site(self, report: Mapping[str, Any], width: int) -> RenderResult:
        judged = self.judged or report
        rows = site_rows({**report, "sites": judged.get("sites", ())})
        if judged["round"] != report["round"]:
            yield Text(f"figures of sites after round {judged['round']}:")
        if rows:
            yield _sites(rows, width)
        if len(rows) > _MOST_ROWS or width < _NARROW or not rows or report.get("aborted"):
            yield Text(f"this round: {attendance(report)}")


class Boards:
    """The table of everything that runs: that of the one that does, or a line for each."""

    def __init__(self, pace: Pace) -> None:
        self._pace, self._began = pace, time.monotonic()
        self._running, self._shown = dict[str, Board](), Board(pace, began=self._began)

    def add(self, name: str) -> Board:
        """``name`` is running from now on."""
        self._shown = Board(self._pace, began=self._began)
        self._running = {**self._running, name: self._shown}  # replaced: it is drawn in another thread
        return self._shown

    def end(self, name: str) -> None:
        """It is not any more; the last one is shown until there is another."""
        self._running = {other: board for other, board in self._running.items() if other != name}
        self._shown = next(reversed(self._running.values()), self._shown)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        boards = list(self._running.values())
        if len(boards) <= 1:
            yield self._shown
            return
        for board in boards[:_MOST_LINES]:
            yield Text(board.line(), no_wrap=True, overflow="ellipsis")
        if len(boards) > _MOST_LINES:
            yield Text(f"and {len(boards) - _MOST_LINES} more")
        yield from _foot(self._pace, self._began, options.max_width)


def _foot(pace: Pace, start: float, width: int) -> RenderResult:
    passed = int(time.monotonic() - start)
    clock = f"{passed // 3600}:{passed // 60 % 60:02d}:{passed % 60:02d}"
    bar = Table.grid()
    bar.add_row(ProgressBar(total=max(1, pace.total), completed=pace.done, width=min(width, 60)))
    yield bar
    yield Text(f"{pace.done} of {pace.total} rounds and attacks, {clock} passed, {pace.left()}")


def _sites(rows: Sequence[SiteRow], width: int) -> Table:
    """One row a site; with many sites the worst ones and the quantiles."""
    few = len(rows) <= _MOST_ROWS
    shown = rows if few else [*_lowest(rows), *_quantiles(rows)]
    longest = max(len(row.site) for row in shown)
    widths = {"site": min(max(4, longest), max(14, width // 3)), "records": 7, "accuracy": 8, "loss": 6}
    if width < _NARROW:
        del widths["records"], widths["loss"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="underline")
    for name, wide in widths.items():
        table.add_column(name, width=wide, no_wrap=True, justify="left" if name == "site" else "right")
    rest = max(10, width - sum(widths.values()) - 2 * len(widths))
    table.add_column("this round", no_wrap=True, max_width=rest)
    for row in shown:
        texts = {"site": row.site, "records": str(row.n) if row.n else "-"}
        texts |= {"accuracy": figure(row.accuracy), "loss": figure(row.loss)}
        state = Text(row.state, style=_style(row.state))
        table.add_row(*(Text(texts[name]) for name in widths), state)  # Text: what a site calls itself is no markup
    return table


def _style(state: str) -> str:
    if state.startswith("refused"):
        return "red"
    if state.startswith(("dropped", "late", "absent", "slow")):
        return "yellow"
    return "" if state.startswith("took part") else "dim"


def _lowest(rows: Sequence[SiteRow]) -> list[SiteRow]:
    judged = [row for row in rows if row.accuracy is not None]
    return sorted(judged, key=lambda row: row.accuracy or 0.0)[:_WORST]


def _quantiles(rows: Sequence[SiteRow]) -> list[SiteRow]:
    """Of the sites' accuracies, each site counted once."""
    accuracies = [row.accuracy for row in rows if row.accuracy is not None]
    named = (
        ("10 % below", 0.1, ""),
        ("median", 0.5, f"of {count_words(len(accuracies), 'site')} with figures"),
        ("10 % above", 0.9, ""),
    )
    return [SiteRow(name, 0, _quantile(accuracies, share), None, of) for name, share, of in named]


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None
