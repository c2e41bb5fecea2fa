"""What commands print: results to standard output, errors to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..core.terminal import one_line
from .process_time import process_seconds

if TYPE_CHECKING:
    from ..study.progress.outcome import Outcome

__all__ = [
    "places",
    "print_paths",
    "print_plan",
    "print_results",
    "print_stderr",
    "print_tables",
    "print_version",
    "text",
]


def print_results(folder: Path, outcome: Outcome, as_json: bool) -> None:
    """Print what the run did, and where the table and the page are that it wrote."""
    table, page = folder / "table.csv", folder / "report.html"
    if as_json:
        print(json.dumps(_run_record(folder, outcome, table, page), indent=1))
        return
    print_tables(folder)
    _print_outcome(outcome)
    print(places(table, page))


def print_paths(paths: dict[str, Path], as_json: bool) -> None:
    """Print where files are, by name."""
    if as_json:
        print(json.dumps({name: text(path) for name, path in paths.items()}, indent=1))
    else:
        print("\n".join(one_line(f"{name}: {text(path)}") for name, path in paths.items()))


def places(table: Path, page: Path) -> str:
    """Where table and page are, in two lines."""
    return "\n".join(map(one_line, (f"table:  {text(table)}", f"report: {text(page)}")))


def text(path: Path | str) -> str:
    """A path as text: what the locale could not read is UTF-8, or shown as unknown."""
    return os.fsencode(path).decode("utf-8", "replace")


def print_version(wanted: bool) -> None:
    """The version, and the end of the program, if it is ``wanted``."""
    if wanted:
        from importlib.metadata import version

        print(f"consilium {version('consilium')}")
        raise typer.Exit


def print_stderr(line: str) -> None:
    """One line on standard error."""
    print(one_line(line), file=sys.stderr)


def _run_record(folder: Path, outcome: Outcome, table: Path, page: Path) -> Mapping[str, object]:

    from ..study.store.store import read_stored

    study = read_stored(folder / "study.json") or {}
    about = {"study": study["name"], "folder": text(folder), "arms": study["arms"], "cells": study["cells"]}
    about |= {"accept": study["accept"]} if "accept" in study else {}
    about |= {"process_seconds": round(process_seconds(), 2)}
    return {**about, **outcome.to_json(), "table": text(table), "report": text(page)}


def print_tables(folder: Path) -> None:
    """The score of the study's task where that is not accuracy, the arms, and the thresholds that were stated."""
    from ..monitor.screen import draw
    from ..report.analyse.acceptance import acceptance_table
    from ..report.render.table import terminal_table
    from .score_table import score_table

    if (scores := score_table(folder)) is not None:
        draw(scores)
    draw(terminal_table(folder))
    if (accepted := acceptance_table(folder)) is not None:
        draw(accepted)


def _print_outcome(outcome: Outcome) -> None:
    print(f"{outcome.line()}, {process_seconds():.1f} s since the start of the program")
    for cell, why in outcome.failed.items():
        print(one_line(f"failed: {cell}: {why}"))


def print_plan(summary: Mapping[str, object]) -> None:
    """Print the table of a plan and the lines below it."""
    from ..monitor.screen import draw
    from ..study.run.plan_table import plan_lines, plan_table

    draw(plan_table(summary))
    print(*plan_lines(summary), sep="\n")
