"""The command line: ``consilium init | plan | run | report | list | show``, ``prepare | work`` for many workers, and
``sign-off | serve | join | keys`` for real sites.

It has no options that a study does not have, except those for where the work is done and how long to wait for it.
``--version``, ``-h`` and ``--install-completion`` are there too.

Results go to standard output (``--json``: one JSON document), progress and errors to standard error.  Exit codes: 0
every cell is ok, 2 the study was refused, 3 some cell failed or the run was stopped.  A threshold of ``[[accept]]``
that is not met changes none of them: it is a finding, and no failure.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..core.catalogue import ROOMS, cards
from ..core.errors import Refused
from ..core.listing import card_list
from ..core.terminal import one_line, steady_streams, visible
from .completion import folders, kinds_and_folders, rooms, studies
from .guard import guarded
from .output import places, print_paths, print_plan, print_results, print_stderr, print_version, text
from .quick_import import uncollected
from .show import is_folder, show_entries, show_folder

__all__ = ["join", "keys_server", "keys_site", "list_entries", "main", "options", "plan", "prepare", "report", "run",
           "serve", "show", "sign_off", "start_study", "work"]  # fmt: skip

_app = typer.Typer(
    name="consilium",
    help="Federated learning under differential privacy, compression and adversarial training, attacked and measured.",
    no_args_is_help=True,
    suggest_commands=False,  # click suggests them by itself
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_keys = typer.Typer(help="Make certificates and keys for a deployment.", no_args_is_help=True, rich_markup_mode=None)
_app.add_typer(_keys, name="keys")
_StudyFile = Annotated[
    Path | None,
    typer.Argument(metavar="STUDY", help="A study file; without one, the quickstart.", autocompletion=studies),
]
_Out = Annotated[
    Path, typer.Option("--out", metavar="OUT", help="The folder that holds studies.", autocompletion=folders)
]
_Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="OUT/STUDY, a folder that a run has written.", autocompletion=folders)
]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; results and errors only.")]
_Insecure = Annotated[
    bool, typer.Option("--insecure-loopback", help="Without TLS and keys; on an address of the loopback only.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def main() -> None:
    """The command line, with streams on which no text is an error."""
    steady_streams()
    _app()


@_app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Federated learning under differential privacy, compression and adversarial training, attacked and measured."""


@_app.command("init")
def start_study(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A CSV file, an npz file or a folder of pictures.")],
    study: Annotated[
        Path | None, typer.Option("--study", metavar="FILE", help="The file to write; default: NAME.toml, of DATA.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Write a study of your own data: names of columns and files, never a value of a record; fill in what it marks."""
    with guarded(as_json):
        from .new_study import write_study

        print_paths({"study": write_study(data, study)}, as_json)


@_app.command()
def run(
    study: _StudyFile = None,
    out: _Out = Path("out"),
    executor: Annotated[
        str, typer.Option(metavar="WHAT", help="serial, processes, dask:ADDRESS, slurm; default: as is fastest here.")
    ] = "",
    workers: Annotated[int, typer.Option(min=0, help="Stages at once; 0: as many as the cores allow.")] = 0,
    quiet: _Quiet = False,
    as_json: _Json = False,
) -> None:
    """Train every combination, attack every model, write the evidence and the report."""
    with guarded(as_json):
        from ..api.study import Study

        subject = Study.quickstart() if study is None else Study.read(study)
        words = ["consilium", "run", *([str(study)] if study else []), "--out", str(out)]
        results = subject.run(out, command=text(shlex.join(words)), quiet=quiet, executor=executor, workers=workers)
        print_results(results.folder, results.outcome, as_json)
    raise typer.Exit(3 if results.outcome.failed else 0)


@_app.command()
def prepare(study: _StudyFile = None, out: _Out = Path("out"), quiet: _Quiet = False, as_json: _Json = False) -> None:
    """Plan a study and write plan.json, for any number of `work` started by anything."""
    with guarded(as_json):
        from ..api.study import Study

        words = ["consilium", "prepare", *([str(study)] if study else []), "--out", str(out)]
        subject = Study.quickstart() if study is None else Study.read(study)
        folder, stages = subject.prepare(out, text(shlex.join(words)), quiet=quiet)
        lines = {"folder": text(folder), "stages": stages, "work": f"consilium work {shlex.quote(text(folder))}"}
        print(json.dumps(lines) if as_json else "\n".join(one_line(f"{k}: {v}") for k, v in lines.items()))


@_app.command()
def work(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="OUT/STUDY, as `prepare` wrote it.", autocompletion=folders)
    ],
    patience: Annotated[float, typer.Option(min=1, help="Seconds after which a silent worker is dead.")] = 120.0,
    quiet: _Quiet = False,
    as_json: _Json = False,
) -> None:
    """Do stages of a prepared study beside other workers, until all have ended."""
    with guarded(as_json):
        from ..report.render.page import write_page
        from ..report.render.table import write_csv
        from ..study.executors.distributed.worker import work_in

        done = work_in(folder, lambda place: [write_csv(place), write_page(place)], patience, quiet)
        if done.last:
            print_results(done.folder, done.outcome, as_json)
        else:
            print(json.dumps(done.outcome.to_json()) if as_json else done.outcome.line())
    raise typer.Exit(3 if done.outcome.failed else 0)


@_app.command()
def plan(study: _StudyFile = None, out: _Out = Path("out"), quiet: _Quiet = False, as_json: _Json = False) -> None:
    """Show what a study would do, with the epsilon of every arm and the expected time of training; train nothing."""
    with guarded(as_json):
        with uncollected():
            from ..api.study import Study
            from ..study.run.plan_summary import plan_summary
            from ..study.store.store import Store

        subject = (Study.quickstart() if study is None else Study.read(study)).plan(quiet)
        store = Store(out / subject.spec.name)
        summary = plan_summary(subject, store if store.folder.exists() else None)
        if as_json:
            print(json.dumps(summary, indent=1))
        else:
            print_plan(summary)


@_app.command()
def report(
    folder: _Folder,
    include_records: Annotated[
        bool,
        typer.Option("--include-records", help="Show images and scores of records that are not public: for you only."),
    ] = False,
    as_json: _Json = False,
) -> None:
    """Write table.csv and report.html again from the evidence in FOLDER; nothing is run."""
    with guarded(as_json):
        from ..report.load.read import read_study
        from ..report.render.page import write_page
        from ..report.render.table import write_csv

        table, page, altered = (
            write_csv(folder),
            write_page(folder, False if include_records else None),
            read_study(folder).altered,
        )
        for line in altered:
            print(f"consilium: {one_line(line)}", file=sys.stderr)
        paths = {"table": text(table), "report": text(page)} | ({"altered": list(altered)} if altered else {})
        print(json.dumps(paths) if as_json else places(table, page))


@_app.command("list")
def list_entries(
    room: Annotated[
        str | None, typer.Argument(metavar="ROOM", help="For example attack/evasion or defend.", autocompletion=rooms)
    ] = None,
    as_json: _Json = False,
) -> None:
    """List everything a study can name: kind, room, moment or aim, knobs with defaults, source."""
    with guarded(as_json):
        names = [name for name in ROOMS if room is None or name == room or name.startswith(f"{room}/")]
        if not names:
            raise Refused(f"there is no room {room!r}", remedy="rooms are " + ", ".join(ROOMS))
        entries = [card for name in names for card in cards(name)]
        listing = card_list(entries) or f"{' and '.join(names)}: no entries yet"
        print(json.dumps([c.to_json() for c in entries], indent=1) if as_json else visible(listing))


@_app.command()
def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="KIND|FOLDER",
            help="A kind from the list, a study's folder or that of one of its cells.",
            autocompletion=kinds_and_folders,
        ),
    ],
    as_json: _Json = False,
) -> None:
    """Show what an entry's parameters mean, or what a study's folder or one cell of it says."""
    with guarded(as_json):
        if is_folder(what):
            show_folder(Path(what), as_json)
        else:
            show_entries(what, as_json)


@_app.command()
def serve(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY", help="A study file; its sites are real ones.", autocompletion=studies)
    ],
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where sites dial in.")],
    out: _Out = Path("out"),
    keys: Annotated[Path | None, typer.Option(metavar="DIR", help="What `keys server` made, with sites/*.pub.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds until a round is closed without the silent.")] = 3600.0,
    gather: Annotated[float, typer.Option(help="Seconds to wait for all sites before the first round.")] = 3600.0,
    insecure_loopback: _Insecure = False,
    as_json: _Json = False,
) -> None:
    """Train a study with sites on other machines; the folder is that of `run`, and a killed server goes on from it."""
    with guarded(as_json):
        from ..deploy.server.server import serve_study
        from ..deploy.transport.server_options import ServerOptions
        from ..report.render.page import write_page
        from ..report.render.table import write_csv

        options = ServerOptions(address, keys, insecure_loopback, deadline, gather)
        words = ["consilium", "serve", str(study), "--out", str(out), "--address", address]
        folder, outcome = serve_study(study, out, options, text(shlex.join(words)), print_stderr)
        write_csv(folder)
        write_page(folder)
        print_results(folder, outcome, as_json)
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
    with guarded(as_json):
        from ..deploy.site.site import SiteConnection, take_part

        take_part(SiteConnection(address, key, ca, insecure_loopback), site, data, limits, state, secret_from)


@_app.command("sign-off")
def sign_off(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY", help="A study file; its sites are real ones.", autocompletion=studies)
    ],
    site: Annotated[str, typer.Option(metavar="ID", help="The site's name in the study.")],
    records: Annotated[int, typer.Option(metavar="N", min=1, help="Training records of the site.")],
    patients: Annotated[int, typer.Option(metavar="N", min=0, help="Of so many patients; 0: each of its own.")] = 0,
    limits: Annotated[Path | None, typer.Option(metavar="FILE", help="The site's own limits and budget.")] = None,
    keys: Annotated[Path | None, typer.Option(metavar="DIR", help="What `keys server` made, with sites/*.pub.")] = None,
    as_json: _Json = False,
) -> None:
    """Write what a site's officer signs before the site joins: a page of Markdown, on the standard output."""
    with guarded(as_json):
        from ..deploy.agreement.sheet import sheet
        from ..deploy.agreement.terms import Counts, read_terms

        terms, lines = read_terms(study, site, Counts(records, patients), limits, keys)
        page = sheet(terms, lines)
        print(json.dumps({"site": site, "digest": terms.digest, "sheet": page}) if as_json else page, end="")


@_keys.command("server")
def keys_server(
    address: Annotated[list[str], typer.Option(metavar="HOST", help="A name or address that sites dial; repeatable.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")] = Path("keys"),
    as_json: _Json = False,
) -> None:
    """Make an authority and the server's certificate: ca.crt goes to every site, the rest stays."""
    with guarded(as_json):
        from consilium.deploy.transport.certificates import make_server_keys

        subject = make_server_keys(out, address)
        paths = {"ca": subject.ca, "certificate": subject.certificate, "key": subject.key, "sites": subject.sites}
        print_paths(paths, as_json)


@_keys.command("site")
def keys_site(
    site: Annotated[str, typer.Argument(metavar="ID", help="The site's name in the study.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to put it.")] = Path("keys"),
    as_json: _Json = False,
) -> None:
    """Make a site's key: ID.key stays at the site, ID.pub goes to the server's folder sites/."""
    with guarded(as_json):
        from consilium.deploy.transport.certificates import make_site_key

        private, public = make_site_key(site, out)
        print_paths({"private": private, "public": public}, as_json)
