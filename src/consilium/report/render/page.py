"""One self-contained page: evidence in, ``report.html`` out, and nothing that touches a network.

The page carries its own style, script and plotting library.  A Content-Security-Policy forbids every load from outside
and allows exactly the scripts whose SHA-256 it lists, so text that came from a study can never run, even if an escape
were missing somewhere.  The plotting library is in the page compressed and is run only when a plot is first seen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from consilium.core.count_words import count_words
from consilium.core.files import replace
from consilium.core.rounding import round_down
from consilium.report.analyse.acceptance import acceptance_view
from consilium.report.analyse.columns import TableColumn, columns
from consilium.report.analyse.communication import Traffic, traffic
from consilium.report.analyse.effects import changed, effects, less_noise, readings, unpaired
from consilium.report.analyse.highlights import highlights
from consilium.report.analyse.many_sites import MANY, bands, pools
from consilium.report.analyse.matrix_columns import main_columns, other_columns
from consilium.report.analyse.robustness.conflicts import agreement, combinations_of_two
from consilium.report.analyse.robustness.curve import CurvePlot
from consilium.report.analyse.robustness.less_noise import less_noise_at
from consilium.report.analyse.robustness.radius_curves import radius_curves
from consilium.report.analyse.robustness.red_flags import flagged_rows
from consilium.report.analyse.robustness.site_curves import site_curves
from consilium.report.analyse.roc import rocs
from consilium.report.analyse.summary import Row, flagged_at, inverted, majority_rate, rows
from consilium.report.answer.compose import answer
from consilium.report.answer.first_screen import first_screen
from consilium.report.load.numbers import interval, number
from consilium.report.load.read import read_study
from consilium.report.load.records import StudyRecord

from .cell import CellView, cell_views
from .claim_text import privacy_statement, question, right_answer
from .figures import curves, histogram, pareto
from .glossary import PITFALLS, TERMS
from .heatmap import heat_groups, partition_tiles
from .law_words import LAWS, linked_laws

__all__ = ["write_page"]

_MOST = 12
"""Arms that a card names one by one."""


def write_page(folder: Path, share: bool | None = None) -> Path:
    """Write ``report.html`` into the study's ``folder`` and return its path.

    With ``share`` the page holds no image of a record and no per-record score; that is the default unless the data are
    bundled with a public package.
    """
    study = read_study(folder)
    page = _render(study, share=not study.data.bundled if share is None else share)
    path = folder / "report.html"
    replace(path, page.encode("utf-8", "backslashreplace"))
    return path


def _render(study: StudyRecord, *, share: bool) -> str:
    return _environment().get_template("page.html.j2").render(_context(study, share=share))


@cache
def _environment() -> Environment:
    loader = PackageLoader("consilium.report.render", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": number,
        "pretty": _pretty,
        "round_down": round_down,
        "counted": count_words,
        "laws": linked_laws,
    }
    environment.filters["groupby_order"] = _spans
    environment.globals |= {"interval": interval, "inverted_at": inverted, "flagged_at": flagged_at}
    return environment


def _context(study: StudyRecord, *, share: bool) -> Mapping[str, object]:
    every = rows(study)
    codes = {row.arm.name: row.code for row in every}
    views = cell_views(study, codes, share=share)
    lines, shown, cards = traffic(study, every), effects(study), highlights(study, every)
    radii, sites, combined = radius_curves(study, every), site_curves(study, every), combinations_of_two(study)
    at_once, folded = first_screen(answer(study, every, shown))
    script, plotly = _source("page.js"), _plotly()
    return {
        "study": study,
        "share": share,
        "question": question(study),
        "right_answer": right_answer(study),
        "statement": privacy_statement(study),
        "claimed": any(cell.judged and cell.privacy.epsilon is not None for cell in study.evidence),
        "answer": at_once,
        "folded": folded,
        "crowned": [card for card in cards if card.crowned],
        "uncrowned": [card for card in cards if not card.crowned],
        "accepted": acceptance_view(study),
        "main": main_columns(study, every),
        "others": other_columns(study, every),
        "pictures": len(study.data.shape) == 3,
        "laws": LAWS.items(),
        "rows": every,
        "flagged": bool(flagged_rows(every)),
        "majority": majority_rate(study),
        "chances": _chances(every),
        "heat": heat_groups(study, every),
        "changed": changed(study),
        "effects": shown,
        "readings": readings(study, shown),
        "inverted": _inverted(study, every),
        "quieter": less_noise(study),
        "unpaired": unpaired(study),
        "left_out": _left_out(study),
        "most": _MOST,
        "radii": radii,
        "combined": combined,
        "agreement": agreement(combined),
        "less_noise": less_noise_at(study, every, columns(study)),
        "sites": sites,
        "tiles": partition_tiles(study.data),
        "bands": bands(study.data),
        "pools": pools(study.data),
        "cells": views,
        "drawn": {
            **_chart_data(study, every, views, lines, share=share),
            "lines": _keyed("radius", radii) | _keyed("sites", sites),
        },
        "traffic": lines,
        "troubled": [view for view in views if not view.record.ok],
        "refusals": [row for row in every if row.arm.refusal and row.infected_by == "none"],
        "provenance": _provenance(study),
        "terms": TERMS,
        "pitfalls": PITFALLS,
        "version": version("consilium"),
        "style": Markup(_source("style.css")),
        "script": Markup(script),
        "plotly": Markup(_packed(plotly)),
        "hashes": " ".join(f"'{_digest(text)}'" for text in (script, plotly)),
    }


def _inverted(study: StudyRecord, every: Sequence[Row]) -> list[str]:
    """A sentence for each figure of leakage whose whole interval is below chance."""
    return [
        f"{row.code} ({row.arm.name}{'' if row.infected_by == 'none' else f', {row.infected_by}'}): {column.label} "
        f"{f'of “{figure.attack}” ' if figure.attack else ''}"
        f"{number(figure.value, column.style)} ({interval(figure.low, figure.high, column.style)}) lies wholly below "
        f"chance ({number(column.chance, column.style)}). It counts as chance, but who inverts the attack's guess is "
        "above chance by as much: this is leakage too."
        for row in every
        for column in columns(study)
        if inverted(figure := row.figures[column.key], column)
    ]


def _left_out(study: StudyRecord) -> list[str]:
    """The sites that no membership attack targets, because some infection controls them; many are counted."""
    if not any(finding.aim == "membership" for cell in study.evidence for finding in cell.attacks):
        return []
    corrupted = sorted({site for cell in study.evidence for site in cell.corrupted})
    return corrupted if len(corrupted) <= MANY else [f"{len(corrupted)} sites"]


def _source(name: str) -> str:
    return files("consilium.report.render").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    library: str = get_plotlyjs()
    return library.replace("\r\n", "\n")


@cache
def _packed(text: str) -> str:
    """zlib, base64: a third of the library's size."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def _spans(shown: Sequence[TableColumn], key: str) -> list[tuple[str, int]]:
    """Each run of columns with the same ``key``, and how many they are."""
    return [(str(name), len(list(members))) for name, members in groupby(shown, lambda column: getattr(column, key))]


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _chances(every: Sequence[Row]) -> dict[str, float]:
    """The chance level of every column that has one."""
    levels: dict[str, float] = {}
    for row in every:
        for key, figure in row.figures.items():
            if figure.chance is not None:
                levels.setdefault(key, figure.chance)
    return levels


def _chart_data(
    study: StudyRecord, every: Sequence[Row], views: Sequence[CellView], lines: Sequence[Traffic], *, share: bool
) -> Mapping[str, Any]:
    """What the script draws; per-record scores go in as histograms, not at all with ``share``, and as rates."""
    scored = {} if share else {
        f"{view.record.digest}/{finding.name}": bins
        for view in views
        for finding in view.record.aimed("membership")
        if (bins := histogram(finding)) is not None
    }  # fmt: skip
    trainings = {digest: curves(rounds) for digest, rounds in study.rounds.items() if rounds}
    sent = [line.drawn() for line in lines]
    rates = {view.record.digest: roc for view in views if (roc := rocs(view.record)) is not None}
    return {
        "pareto": pareto(study, every),
        "curves": trainings,
        "histograms": scored,
        "traffic": sent,
        "rocs": rates,
    }


def _keyed(prefix: str, plots: Sequence[CurvePlot]) -> dict[str, object]:
    return {f"{prefix}/{number}": plot.drawn() for number, plot in enumerate(plots)}


def _provenance(study: StudyRecord) -> list[tuple[str, str]]:
    """Name and value of what is needed to run the study again, the same for all cells or marked as different."""
    code = {_revision(cell.code) for cell in study.evidence} - {""}
    machines = {str(cell.hardware.get("cpu", "")) for cell in study.evidence} - {""}
    packages = {f"{name} {number}" for cell in study.evidence for name, number in cell.packages.items()}
    return [(name, value) for name, value in (
        ("Seeds", ", ".join(map(str, study.seeds))),
        ("Code", "; ".join(sorted(code))),
        ("Packages", ", ".join(sorted(packages))),
        ("Processor", "; ".join(sorted(machines))),
        ("Device", study.device),
        ("Threads", "" if study.threads is None else str(study.threads)),
        ("Data", study.data.provenance),
        ("Seals", _seals(study)),
        ("Created", study.created),
        ("Took", "" if study.seconds is None else number(study.seconds, "seconds")),
    ) if value]  # fmt: skip


def _seals(study: StudyRecord) -> str:
    """How many cells have valid seals, how many cannot be verified, and how many were changed."""
    done = [cell for cell in study.evidence if cell.written]
    changed, unsealed = sum(bool(cell.altered) for cell in done), sum(bool(cell.unsealed) for cell in done)
    parts = [f"{len(done) - changed - unsealed} of {count_words(len(done), 'cell')} as they were written"]
    parts += [f"{changed} changed since"] if changed else []
    parts += [f"{unsealed} not sealed (written before there were seals)"] if unsealed else []
    return ", ".join(parts) if done else ""


def _revision(code: Mapping[str, object]) -> str:
    parts = (code.get("version"), code.get("revision"), "with uncommitted changes" if code.get("dirty") else "")
    return " ".join(str(part) for part in parts if part)
