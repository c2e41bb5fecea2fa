"""The live table of a run, as text that fits the terminal it is drawn on.

What is running, the last round in one line, epsilon spent, every site's figures and how it took part; with many sites
the worst of them by name and the quantiles of all.  Words carry the meaning: colour only repeats it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .pace import Pace
from .rounds import SiteRow, attendance, figure, round_line, site_rows
from .spending import EpsilonSpent

__all__ = ["Board"]

_MOST_ROWS = 12
_WORST = 5
_NARROW = 60


@dataclass
class Board:
    """What the table shows; a renderable for `rich.live.Live`, drawn anew each time."""

    pace: Pace
    running: str = "starting"
    rounds: int = 0
    report: Mapping[str, Any] | None = None
    spent: EpsilonSpent | None = None
    began: float = field(default_factory=time.monotonic)

    def show(self, running: str, rounds: int = 0) -> None:
        """Something else is running: a training of ``rounds`` rounds, or what has none."""
        if running != self.running:
            self.running, self.rounds, self.report, self.spent = running, rounds, None, None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield Text(self.running, style="bold")
        if self.report is not None:
            yield Text(round_line(self.report, self.rounds))
            if self.spent is not None:
                yield Text(str(self.spent))
            rows = site_rows(self.report)
            if rows:
                yield _sites(rows, width)
            if len(rows) > _MOST_ROWS or width < _NARROW or not rows:
                yield Text(f"this round: {attendance(self.report)}")
        yield from self._foot(width)

    def _foot(self, width: int) -> RenderResult:
        passed = int(time.monotonic() - self.began)
        clock = f"{passed // 3600}:{passed // 60 % 60:02d}:{passed % 60:02d}"
        yield ProgressBar(total=max(1, self.pace.total), completed=self.pace.done, width=min(width, 80))
        yield Text(f"{self.pace.done} of {self.pace.total} rounds and attacks, {clock} passed, {self.pace.left()}")


def _sites(rows: Sequence[SiteRow], width: int) -> Table:
    """One row a site; with many sites the worst ones and the quantiles."""
    narrow = width < _NARROW
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("site", no_wrap=True, overflow="ellipsis", max_width=max(8, width // 3))
    if not narrow:
        table.add_column("records", justify="right", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    if not narrow:
        table.add_column("loss", justify="right", no_wrap=True)
    table.add_column("this round", no_wrap=True, overflow="ellipsis", ratio=1)
    few = len(rows) <= _MOST_ROWS
    for row in rows if few else _lowest(rows):
        _add(table, row, narrow)
    for row in () if few else _quantiles(rows):
        _add(table, row, narrow)
    return table


def _add(table: Table, row: SiteRow, narrow: bool) -> None:
    cells = [row.site, str(row.n) if row.n else "-", figure(row.accuracy), figure(row.loss), row.state]
    kept = [cells[i] for i in ((0, 2, 4) if narrow else range(5))]
    texts = [Text(cell) for cell in kept]  # Text: what a site calls itself is no markup
    texts[-1].stylize(_style(row.state))
    table.add_row(*texts)


def _style(state: str) -> str:
    if state.startswith(("refused", "aborted")):
        return "red"
    if state.startswith(("dropped", "late", "absent")):
        return "yellow"
    return "" if state.startswith("took part") else "dim"


def _lowest(rows: Sequence[SiteRow]) -> list[SiteRow]:
    told = [row for row in rows if row.accuracy is not None]
    return sorted(told, key=lambda row: row.accuracy or 0.0)[:_WORST]


def _quantiles(rows: Sequence[SiteRow]) -> list[SiteRow]:
    """Over sites, each counted once; loss and accuracy are ranked apart."""
    made = []
    for name, share in (("lowest tenth", 0.1), ("median site", 0.5), ("highest tenth", 0.9)):
        accuracy = _quantile([row.accuracy for row in rows if row.accuracy is not None], share)
        loss = _quantile([row.loss for row in rows if row.loss is not None], 1 - share)
        told = sum(row.accuracy is not None for row in rows)
        made.append(SiteRow(name, 0, accuracy, loss, f"of {told} sites with figures" if share == 0.5 else ""))
    return made


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None
