"""The command line: ``consilium run | plan | report | list | show``, and ``serve | join | keys`` for real machines.

It has no knobs that a study has not; those of a deployment say where the machines are and how long to wait for them.

Results go to standard output (``--json``: one JSON document), progress and errors to standard error.  Exit codes: 0
every cell is ok, 2 the study was refused, 3 some cell failed or the run was stopped.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .core.catalogue import ROOMS, Card, cards
from .core.errors import ConsiliumError, Failed, Refused
from .core.terminal import one_line, steady_streams, visible
from .monitor.interrupt import asked, listen

if TYPE_CHECKING:
    from .study.run.outcome import Outcome

__all__ = ["join", "keys_server", "keys_site", "list_entries", "main", "plan", "report", "run", "serve", "show"]

_app = typer.Typer(
    name="consilium",
    help="Federated learning under differential privacy, compression and adversarial training, attacked and measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_keys = typer.Typer(help="Make certificates and keys for a deployment.", no_args_is_help=True, rich_markup_mode=None)
_app.add_typer(_keys, name="keys")

_STOPPED = Failed("stopped", remedy="nothing finished is lost; run again to go on")
_StudyFile = Annotated[Path | None, typer.Argument(metavar="STUDY", help="A study file; without one, the quickstart.")]
_Out = Annotated[Path, typer.Option("--out", metavar="OUT", help="The folder that holds studies.")]
_Insecure = Annotated[
    bool, typer.Option("--insecure-loopback", help="Without TLS and keys; on an address of the loopback only.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def main() -> None:
    """The command line, with streams on which no text is an error."""
    steady_streams()
    _app()


@_app.command()
def run(study: _StudyFile = None, out: _Out = Path("out"), as_json: _Json = False) -> None:
    """Train every combination, attack every model, write the evidence and the report."""
    with _guarded(as_json):
        from .study.run.study import Study

        made = Study.quickstart() if study is None else Study.read(study)
        words = ["consilium", "run", *([str(study)] if study else []), "--out", str(out)]
        results = made.run(out, command=_text(shlex.join(words)))
        _print_results(results.folder, results.outcome, as_json)
    raise typer.Exit(3 if results.outcome.failed else 0)


@_app.command()
def plan(study: _StudyFile = None, out: _Out = Path("out"), as_json: _Json = False) -> None:
    """Say what a study would do, with the epsilon of every arm and the time to expect; train nothing."""
    with _guarded(as_json):
        from .study.run.plan_summary import plan_summary
        from .study.run.study import Study
        from .study.store.store import Store

        made = (Study.quickstart() if study is None else Study.read(study)).plan(quiet=False)
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
        from .report.load.read import read_study
        from .report.render.page import write_page
        from .report.render.table import write_csv

        table, page, altered = write_csv(folder), write_page(folder, share), read_study(folder).altered
        for line in altered:
            print(f"consilium: {one_line(line)}", file=sys.stderr)
        told = {"table": _text(table), "report": _text(page)} | ({"altered": list(altered)} if altered else {})
        print(json.dumps(told) if as_json else _places(table, page))


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
        print(json.dumps([c.to_json() for c in found], indent=1) if as_json else visible(_listing(found)))


@_app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="KIND|CELL", help="A kind from the list, or the folder of a cell.")],
    as_json: _Json = False,
) -> None:
    """Show an entry's knobs, or the evidence of a cell."""
    with _guarded(as_json):
        evidence = Path(what) / "evidence.json"
        if evidence.exists():
            from .report.load.seals import evidence_alerts
            from .study.store.store import read_json

            record = read_json(evidence) or {}
            for line in evidence_alerts(Path(what), record):
                _tell(f"consilium: {evidence}: {line}")
            print(json.dumps(record, indent=1))
            return
        from .core.catalogue import find

        found = [c for c in cards() if c.kind == what] or [find(what, *ROOMS)]
        print(
            json.dumps([c.to_json() for c in found], indent=1) if as_json else visible("\n\n".join(map(_card, found)))
        )


@_app.command()
def serve(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file; its sites are real ones.")],
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where sites dial in.")],
    out: _Out = Path("out"),
    keys: Annotated[Path | None, typer.Option(metavar="DIR", help="What `keys server` made, with sites/*.pub.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds until a round is closed without the silent.")] = 3600.0,
    gather: Annotated[float, typer.Option(help="Seconds to wait for all sites before the first round.")] = 3600.0,
    insecure_loopback: _Insecure = False,
    as_json: _Json = False,
) -> None:
    """Train a study with sites on other machines; the folder is that of `run`, and a killed server goes on from it."""
    with _guarded(as_json):
        from .deploy.server.server import serve_study
        from .deploy.transport.server_options import Terms

        terms = Terms(address, keys, insecure_loopback, deadline, gather)
        words = ["consilium", "serve", str(study), "--out", str(out), "--address", address]
        folder, outcome = serve_study(study, out, terms, _text(shlex.join(words)), _tell)
        _print_results(folder, outcome, as_json)
    raise typer.Exit(3 if outcome.failed else 0)


@_app.command()
def join(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The server's HOST:PORT.")],
    site: Annotated[str, typer.Option(metavar="ID", help="This site's name in the study.")],
    data: Annotated[
        str, typer.Option(metavar="FILE|study", help="A file with [data]; or `study`: a rehearsal on the study's own.")
    ],
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="This site's ID.key.")] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="The server's ca.crt.")] = None,
    limits: Annotated[Path | None, typer.Option(metavar="FILE", help="This site's own limits and budget.")] = None,
    state: Annotated[Path, typer.Option(metavar="DIR", help="This site's state and ledger.")] = Path("site-state"),
    secret_from: Annotated[
        str,
        typer.Option(metavar="WHERE", help="Of the ledger: file, keyring, passphrase, passphrase:env:NAME or :fd:N."),
    ] = "file",
    insecure_loopback: _Insecure = False,
    as_json: _Json = False,
) -> None:
    """Take part in a federation as one site, with records that stay here, until stopped."""
    with _guarded(as_json):
        from .deploy.site.site import Line, take_part

        take_part(Line(address, key, ca, insecure_loopback), site, data, limits, state, secret_from)


@_keys.command("server")
def keys_server(
    address: Annotated[list[str], typer.Option(metavar="HOST", help="A name or address that sites dial; repeatable.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")] = Path("keys"),
    as_json: _Json = False,
) -> None:
    """Make an authority and the server's certificate: ca.crt goes to every site, the rest stays."""
    with _guarded(as_json):
        from .deploy.transport.keys import make_server_keys

        made = make_server_keys(out, address)
        paths = {"ca": made.ca, "certificate": made.certificate, "key": made.key, "sites": made.sites}
        _print_paths(paths, as_json)


@_keys.command("site")
def keys_site(
    site: Annotated[str, typer.Argument(metavar="ID", help="The site's name in the study.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to put it.")] = Path("keys"),
    as_json: _Json = False,
) -> None:
    """Make a site's key: ID.key stays at the site, ID.pub goes to the server's folder sites/."""
    with _guarded(as_json):
        from .deploy.transport.keys import make_site_key

        private, public = make_site_key(site, out)
        _print_paths({"private": private, "public": public}, as_json)


@contextmanager
def _guarded(as_json: bool) -> Iterator[None]:
    """Turn whatever goes wrong into one line and an exit code."""
    listen()
    try:
        yield
        sys.stdout.flush()  # here, where a reader that has gone away is no error, and not at the exit
    except ConsiliumError as error:
        if os.environ.get("CONSILIUM_DEBUG") and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
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
    except SystemExit as error:
        from .study.store.error_summary import own_code

        if not own_code(error):
            raise
        _fail(_unforeseen(error), as_json)
    except Exception as error:
        if asked():
            _fail(_STOPPED, as_json)
        if os.environ.get("CONSILIUM_DEBUG"):
            raise
        _fail(_unforeseen(error), as_json)


def _unforeseen(error: Exception | SystemExit) -> ConsiliumError:
    """What nobody caught: the fault of a user's own file if the traceback goes through one, else a defect."""
    from .study.store.error_summary import own_code

    first = (str(error).strip().splitlines() or [""])[0]
    reason, place = f"{type(error).__name__}: {first}", own_code(error)
    if place:
        return Refused(f"{place} raised {reason}", remedy="mend it there; CONSILIUM_DEBUG=1 shows the traceback")
    remedy = "this is a defect of Consilium: set CONSILIUM_DEBUG=1 for the traceback and report it"
    return Failed(reason, remedy=remedy)


def _fail(error: ConsiliumError, as_json: bool) -> None:
    if as_json:
        detail = {"where": error.where, "reason": error.reason, "remedy": error.remedy}
        print(json.dumps({"error": str(error), "exit_code": error.exit_code, **detail}))
    _tell(f"consilium: {error}")
    raise typer.Exit(error.exit_code)


def _print_results(folder: Path, outcome: Outcome, as_json: bool) -> None:
    from .report.render.page import write_page
    from .report.render.table import write_csv

    table, page = write_csv(folder), write_page(folder)
    if as_json:
        print(json.dumps(_run_record(folder, outcome, table, page), indent=1))
        return
    _print_table(folder)
    _print_outcome(outcome)
    print(_places(table, page))


def _print_paths(paths: dict[str, Path], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: _text(path) for name, path in paths.items()}, indent=1))
    else:
        print("\n".join(one_line(f"{name}: {_text(path)}") for name, path in paths.items()))


def _places(table: Path, page: Path) -> str:
    return "\n".join(map(one_line, (f"table:  {_text(table)}", f"report: {_text(page)}")))


def _text(path: Path | str) -> str:
    """A path as text: what the locale could not read is UTF-8, or shown as unknown."""
    return os.fsencode(path).decode("utf-8", "replace")


def _tell(line: str) -> None:
    """One line on standard error."""
    print(one_line(line), file=sys.stderr)


def _run_record(folder: Path, outcome: Outcome, table: Path, page: Path) -> dict[str, Any]:
    from .study.store.store import read_json

    study = read_json(folder / "study.json") or {}
    return {
        "study": study["name"],
        "folder": _text(folder),
        "arms": study["arms"],
        "cells": study["cells"],
        **{k: v for k, v in vars(outcome).items() if k != "seconds"},
        "seconds": round(outcome.seconds, 2),
        "table": _text(table),
        "report": _text(page),
    }


def _print_table(folder: Path) -> None:
    from .monitor.screen import draw
    from .report.render.table import terminal_table

    draw(terminal_table(folder))


def _print_outcome(outcome: Outcome) -> None:
    trained = f"trained {outcome.trained}" if outcome.trained else "trained nothing"
    resumed = f" ({outcome.resumed} resumed)" if outcome.resumed else ""
    print(
        f"{trained}{resumed}, {outcome.reused} were done; ran {outcome.attacks_run} attacks, "
        f"{outcome.attacks_reused} were done; {outcome.seconds:.1f} s"
    )
    for cell, why in outcome.failed.items():
        print(one_line(f"failed: {cell}: {why}"))


def _print_plan(summary: dict[str, Any]) -> None:
    from .monitor.screen import draw
    from .study.run.plan_table import plan_lines, plan_table

    draw(plan_table(summary))
    print(*plan_lines(summary), sep="\n")


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
