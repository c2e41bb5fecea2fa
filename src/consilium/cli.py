"""The command line: ``consilium run | plan | report | list | show``.  It has no knobs that a study has not.

Results go to standard output (``--json``: one JSON document), progress and errors to standard error.  Exit codes: 0
every cell is ok, 2 the study was refused, 3 some cell failed or the run was stopped.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .core.catalogue import ROOMS, Card, cards
from .core.errors import ConsiliumError, Failed, Refused
from .study.stop import asked, listen

if TYPE_CHECKING:
    from .study.run import Outcome

__all__ = ["list_entries", "main", "plan", "report", "run", "show"]

_app = typer.Typer(
    name="consilium",
    help="Federated learning under differential privacy, compression and adversarial training, attacked and measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_STOPPED = Failed("stopped", remedy="nothing finished is lost; run again to go on")
_StudyFile = Annotated[Path | None, typer.Argument(metavar="STUDY", help="A study file; without one, the quickstart.")]
_Out = Annotated[Path, typer.Option("--out", metavar="OUT", help="The folder that holds studies.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def main() -> None:
    """The entry point."""
    _app()


@_app.command()
def run(study: _StudyFile = None, out: _Out = Path("out"), as_json: _Json = False) -> None:
    """Train every combination, attack every model, write the evidence and the report."""
    with _guarded(as_json):
        from .report.page import write_page
        from .report.table import write_csv
        from .study.study import Study

        made = Study.quickstart() if study is None else Study.read(study)
        words = ["consilium", "run", *([str(study)] if study else []), "--out", str(out)]
        results = made.run(out, command=shlex.join(words))
        table, page = write_csv(results.folder), write_page(results.folder)
        failed = results.outcome.failed
        if as_json:
            print(json.dumps(_run_record(results.folder, results.outcome, table, page), indent=1))
        else:
            _print_table(results.folder)
            _print_outcome(results.outcome)
            print(f"table:  {table}\nreport: {page}")
    raise typer.Exit(3 if failed else 0)


@_app.command()
def plan(study: _StudyFile = None, out: _Out = Path("out"), as_json: _Json = False) -> None:
    """Say what a study would do, with the epsilon of every arm and the time to expect; train nothing."""
    with _guarded(as_json):
        from .study.store import Store
        from .study.study import Study
        from .study.summary import plan_summary

        made = (Study.quickstart() if study is None else Study.read(study)).plan()
        store = Store(out / made.spec.name)
        summary = plan_summary(made, store if store.folder.exists() else None)
        if as_json:
            print(json.dumps(summary, indent=1))
        else:
            _print_plan(summary)


@_app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="OUT/STUDY, a folder that a run has written.")],
    share: Annotated[
        bool | None,
        typer.Option("--share/--no-share", help="Leave out private images and scores (default: unless bundled)."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Write table.csv and report.html again from the evidence in FOLDER; nothing is run."""
    with _guarded(as_json):
        from .report.page import write_page
        from .report.table import write_csv

        table, page = write_csv(folder), write_page(folder, share)
        print(json.dumps({"table": str(table), "report": str(page)}) if as_json else f"table:  {table}\nreport: {page}")


@_app.command("list")
def list_entries(
    room: Annotated[str | None, typer.Argument(metavar="ROOM", help="For example attack/evasion or defend.")] = None,
    as_json: _Json = False,
) -> None:
    """List everything a study can name: kind, room, moment or aim, knobs with defaults, source."""
    with _guarded(as_json):
        rooms = [name for name in ROOMS if room is None or name == room or name.startswith(f"{room}/")]
        if not rooms:
            raise Refused(f"there is no room {room!r}", remedy="rooms are " + ", ".join(ROOMS))
        found = [card for name in rooms for card in cards(name)]
        print(json.dumps([c.to_json() for c in found], indent=1) if as_json else _listing(found))


@_app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="KIND|CELL", help="A kind from the list, or the folder of a cell.")],
    as_json: _Json = False,
) -> None:
    """Show an entry's knobs, or the evidence of a cell."""
    with _guarded(as_json):
        evidence = Path(what) / "evidence.json"
        if evidence.is_file():
            print(evidence.read_text(encoding="utf-8"), end="")
            return
        from .core.catalogue import find

        found = [c for c in cards() if c.kind == what] or [find(what, *ROOMS)]
        print(json.dumps([c.to_json() for c in found], indent=1) if as_json else "\n\n".join(map(_card, found)))


@contextmanager
def _guarded(as_json: bool) -> Iterator[None]:
    """Turn whatever goes wrong into one line and an exit code."""
    listen()
    try:
        yield
        sys.stdout.flush()  # here, where a reader that has gone away is no error, and not at the exit
    except ConsiliumError as error:
        _fail(_STOPPED if asked() else error, as_json)
    except KeyboardInterrupt:
        _fail(_STOPPED, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        remedy = "free disk space and run again" if error.errno == errno.ENOSPC else "check the path and its rights"
        _fail(Failed(f"{error.filename or 'the system'}: {error.strerror or error}", remedy=remedy), as_json)
    except MemoryError:
        _fail(Failed("out of memory", remedy="use a smaller batch, model or data set"), as_json)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if asked():
            _fail(_STOPPED, as_json)
        if os.environ.get("CONSILIUM_DEBUG"):
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        remedy = "this is a defect of Consilium: set CONSILIUM_DEBUG=1 for the traceback and report it"
        _fail(Failed(f"{type(error).__name__}: {first}", remedy=remedy), as_json)


def _fail(error: ConsiliumError, as_json: bool) -> None:
    if as_json:
        detail = {"where": error.where, "reason": error.reason, "remedy": error.remedy}
        print(json.dumps({"error": str(error), "exit_code": error.exit_code, **detail}))
    print(f"consilium: {error}", file=sys.stderr)
    raise typer.Exit(error.exit_code)


def _run_record(folder: Path, outcome: Outcome, table: Path, page: Path) -> dict[str, Any]:
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return {
        "study": study["name"],
        "folder": str(folder),
        "arms": study["arms"],
        "cells": study["cells"],
        **{k: v for k, v in vars(outcome).items() if k != "seconds"},
        "seconds": round(outcome.seconds, 2),
        "table": str(table),
        "report": str(page),
    }


def _print_table(folder: Path) -> None:
    from rich.console import Console

    from .report.table import terminal_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(terminal_table(folder))


def _print_outcome(outcome: Outcome) -> None:
    trained = f"trained {outcome.trained}" if outcome.trained else "trained nothing"
    resumed = f" ({outcome.resumed} resumed)" if outcome.resumed else ""
    print(
        f"{trained}{resumed}, {outcome.reused} were done; ran {outcome.attacks_run} attacks, "
        f"{outcome.attacks_reused} were done; {outcome.seconds:.1f} s"
    )
    for cell, why in outcome.failed.items():
        print(f"failed: {cell}: {why}")


def _print_plan(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Plan of {summary['study']}", title_justify="left")
    for heading in ("arm", "status", "epsilon", "delta", "unit", "noise multiplier"):
        table.add_column(heading)
    for arm in summary["arms"]:
        if arm["status"] == "refused":
            rule = arm["refusal"]
            table.add_row(arm["arm"], f"refused: {rule['reason']} (LAWS {rule['law']})", "", "", "", "")
            continue
        noise = arm["noise_multiplier"]
        table.add_row(
            arm["arm"],
            "lawful",
            "none (no DP)" if arm["epsilon"] is None else f"{arm['epsilon']:.4g}",
            "" if arm["delta"] is None else f"{arm['delta']:g}",
            arm["unit"] or "",
            "" if noise is None else f"{noise[0]:.4g} to {noise[1]:.4g}",
        )
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    print(
        f"{summary['trainings_to_do']} of {summary['trainings']} trainings to do, {summary['models']} models, "
        f"{summary['cells']} cells, {summary['attacks_per_cell']} attacks on each; "
        f"training will take about {summary['expected_seconds']:.0f} s"
    )


def _listing(found: list[Card]) -> str:
    width = max((len(c.kind) for c in found), default=0)
    lines: list[str] = []
    room = ""
    for card in found:
        if card.room != room:
            room = card.room
            lines += ["", room] if lines else [room]
        lines.append(f"  {card.kind:<{width}}  {card.doc}")
    return "\n".join(lines)


def _card(card: Card) -> str:
    knobs = [f"  {name} = {value if value == 'required' else json.dumps(value)}" for name, value in card.knobs.items()]
    return "\n".join([f"{card.kind}  ({card.room})", card.doc, *knobs, f"Source: {card.source}"])


if __name__ == "__main__":
    main()
