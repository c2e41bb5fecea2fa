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

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .epsilon_tracker import EpsilonSpent
from .eta import Pace
from .round_summary import SiteRow, attendance, bytes_line, figure, round_line, site_rows
from .stragglers import waiting_line

__all__ = ["Board"]

_MOST_ROWS = 12
_WORST = 5
_NARROW = 60
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
        """A round is done; sites that were not asked for figures in it keep their last ones."""
        self.report, self.spent, self.waiting = report, spent, ""
        if report.get("sites"):
            self.judged = report

    def waits(self, question: str, sites: Sequence[str], seconds: float) -> None:
        """A question waits for ``sites``; for none at its end."""
        self.waiting = waiting_line(question, sites, seconds) if sites and seconds >= _SOON else ""

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
        yield from self._foot(width)

    def _by_site(self, report: Mapping[str, Any], width: int) -> RenderResult:
        judged = self.judged or report
        rows = site_rows({**report, "sites": judged.get("sites", ())})
        if judged["round"] != report["round"]:
            yield Text(f"figures of sites after round {judged['round']}:")
        if rows:
            yield _sites(rows, width)
        if len(rows) > _MOST_ROWS or width < _NARROW or not rows or report.get("aborted"):
            yield Text(f"this round: {attendance(report)}")

    def _foot(self, width: int) -> RenderResult:
        passed = int(time.monotonic() - self.began)
        clock = f"{passed // 3600}:{passed // 60 % 60:02d}:{passed % 60:02d}"
        bar = Table.grid()
        bar.add_row(ProgressBar(total=max(1, self.pace.total), completed=self.pace.done, width=min(width, 60)))
        yield bar
        yield Text(f"{self.pace.done} of {self.pace.total} rounds and attacks, {clock} passed, {self.pace.left()}")


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
        said = {"site": row.site, "records": str(row.n) if row.n else "-"}
        said |= {"accuracy": figure(row.accuracy), "loss": figure(row.loss)}
        state = Text(row.state, style=_style(row.state))
        table.add_row(*(Text(said[name]) for name in widths), state)  # Text: what a site calls itself is no markup
    return table


def _style(state: str) -> str:
    if state.startswith("refused"):
        return "red"
    if state.startswith(("dropped", "late", "absent", "slow")):
        return "yellow"
    return "" if state.startswith("took part") else "dim"


def _lowest(rows: Sequence[SiteRow]) -> list[SiteRow]:
    told = [row for row in rows if row.accuracy is not None]
    return sorted(told, key=lambda row: row.accuracy or 0.0)[:_WORST]


def _quantiles(rows: Sequence[SiteRow]) -> list[SiteRow]:
    """Of the sites' accuracies, each site counted once."""
    told = [row.accuracy for row in rows if row.accuracy is not None]
    named = (("10 % below", 0.1, ""), ("median", 0.5, f"of {len(told)} sites with figures"), ("10 % above", 0.9, ""))
    return [SiteRow(name, 0, _quantile(told, share), None, of) for name, share, of in named]


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None
