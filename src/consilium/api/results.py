"""What a study found, for people: cells with their models, a long table, figures, and a table in a notebook.

results = Study.read("mine.toml").run("out")        or  Results.read("out/mine")
results.table()                                     a long pandas DataFrame           (extra: notebook)
results.plot("trade-off")                           a matplotlib figure               (extra: notebook)
results.cells[0].model, results.cells[0].test       a released model, and the records it was judged on
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from consilium.core.count_words import count_words
from consilium.core.errors import MissingExtra, Refused
from consilium.core.records import Records
from consilium.report.load.read import read_study
from consilium.report.load.records import CellRecord, StudyRecord
from consilium.study.plan.plan import Plan
from consilium.study.progress.outcome import Outcome
from consilium.study.run.load import load, test_set

from .html_table import html_table
from .long_table import long_columns, long_rows
from .plots import plotted

__all__ = ["ResultCell", "Results"]

_EXTRA = "pip install consilium[notebook]"


@dataclass(frozen=True, eq=False, repr=False)
class ResultCell:
    """One model with one seed, and what was found about it; ``evidence`` is all of that.

    The model is read when it is asked for, and a user's code is run for that only with ``allow_code``.
    """

    folder: Path
    evidence: CellRecord
    allow_code: bool = False

    def __repr__(self) -> str:
        infected = "" if self.infected_by == "none" else f", infected by {self.infected_by}"
        return f"ResultCell({self.arm}, seed {self.seed}{infected}: {self.evidence.status})"

    @property
    def arm(self) -> str:
        """The name of its arm."""
        return self.evidence.arm

    @property
    def choices(self) -> Mapping[str, str]:
        """What was chosen on each axis."""
        return self.evidence.choices

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.evidence.seed

    @property
    def infected_by(self) -> str:
        """The corruption inside its training, or "none"."""
        return self.evidence.infected_by

    @cached_property
    def model(self) -> nn.Module:
        """The released model: x ``(n, *shape)`` in [0, 1] to answers, as :func:`consilium.load` reads it.

        Raises Refused: its file is gone or was changed, or it is a user's code and ``allow_code`` was not given.
        """
        return load(self.folder, allow_code=self.allow_code)

    @cached_property
    def test(self) -> Records:
        """The records that it was judged on, as :func:`consilium.test_set` finds them.

        Raises Refused: the data are not the same any more.
        """
        return test_set(self.folder)


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """What lies in a study's ``folder``; of a run by this process also its ``plan`` and what it did."""

    folder: Path
    plan: Plan | None = None
    outcome: Outcome = field(default_factory=Outcome)
    allow_code: bool = False

    @classmethod
    def read(cls, folder: str | Path, *, allow_code: bool = False) -> Results:
        """The results of an earlier run, from OUT/STUDY.

        Raises Refused: it is no study's folder.
        """
        results = cls(Path(folder), allow_code=allow_code)
        results.study  # noqa: B018 (refused now, not when it is first used)
        return results

    @cached_property
    def study(self) -> StudyRecord:
        """Everything that was written in the folder, as it was read first.

        Raises Refused: it is no study's folder.
        """
        return read_study(self.folder)

    @cached_property
    def cells(self) -> tuple[ResultCell, ...]:
        """Every cell of the plan, those that failed included."""
        cells = self.folder / "cells"
        return tuple(ResultCell(cells / cell.digest, cell, self.allow_code) for cell in self.study.evidence)

    def table(self) -> Any:
        """Every figure as a long pandas DataFrame: arm, a column an axis, seed, infected_by, measure, value, low, high,
        n, chance.

        ``low`` and ``high`` bound the value at 95 %, ``n`` counts what it was measured on; an undefined figure has no
        value.  Cells without evidence have no rows.

        Raises MissingExtra: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("Results.table needs pandas", remedy=_EXTRA) from error
        frame = pd.DataFrame(list(long_rows(self.study)), columns=list(long_columns(self.study)))
        kinds = {"seed": "int64", "value": "float64", "low": "float64", "high": "float64", "n": "int64"}
        return frame.astype({**kinds, "chance": "float64"})

    def plot(self, what: str = "matrix") -> Any:
        """A matplotlib figure: "matrix" (arms and figures), "trade-off" (utility and leakage), "roc" (membership).

        Raises MissingExtra: matplotlib is not installed.
        Raises Refused: another word, or nothing in the study to draw.
        """
        return plotted(self.study, what)

    def _repr_html_(self) -> str:
        return html_table(self.study)

    def __repr__(self) -> str:
        try:
            return f"Results({self.folder}: {_counted(self.study)})"
        except Refused:
            return f"Results({self.folder}: no study's folder)"


def _counted(study: StudyRecord) -> str:
    """How many cells ended how, in a line."""
    states = [cell.status for cell in study.evidence]
    ends = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    refusals = sum(arm.status == "refused" for arm in study.arms)
    refused = f", {refusals} refused" if refusals else ""
    counts = f"{count_words(len(study.arms), 'arm')}{refused}; {count_words(len(states), 'cell')}"
    return f"{counts} ({ends})" if ends else counts
