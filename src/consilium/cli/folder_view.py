"""A study's folder and a cell's as a terminal shows them: what was asked, what came out, and where the rest is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.count_words import count_words
from ..core.rounding import round_up
from ..core.terminal import one_line
from .output import print_tables, text

if TYPE_CHECKING:
    from rich.table import Table

    from ..core.finding import Measure
    from ..evidence.privacy import PrivacyEvidence
    from ..report.load.records import CellRecord, StudyRecord

__all__ = ["print_cell", "print_study"]


def print_study(folder: Path) -> None:
    """Its question, its table of arms, and which cells have no evidence."""
    from ..report.load.read import read_study

    study = read_study(folder)
    if study.question:
        print(one_line(study.question))
    print_tables(folder)
    print(*map(one_line, _study_lines(study)), sep="\n")


def print_cell(folder: Path) -> bool:
    """What one model answers, what its training claims, and what each attack found; False if no study has it."""
    from ..monitor.screen import draw
    from ..report.load.read import read_study

    home = folder.resolve()
    if not (home.parent.parent / "study.json").is_file():
        return False
    cell = next((one for one in read_study(home.parent.parent).evidence if one.digest == home.name), None)
    if cell is None:
        return False
    print(*map(one_line, _cell_lines(cell)), sep="\n")
    draw(_figures(cell))
    print(*map(one_line, _notes(cell, folder)), sep="\n")
    return True


def _study_lines(study: StudyRecord) -> Iterator[str]:
    counts = Counter(cell.status for cell in study.evidence)
    yield f"{count_words(len(study.evidence), 'cell')}: " + ", ".join(
        f"{count} {status}" for status, count in sorted(counts.items())
    )
    for cell in study.evidence:
        if not cell.ok:
            yield f"{cell.status}: {_name(cell)}: {cell.error or cell.altered or 'no evidence'}"
    yield f"one cell: consilium show {text(study.folder)}/cells/{study.evidence[0].digest}" if study.evidence else ""
    page = study.folder / "report.html"
    yield f"report:   {text(page)}" if page.is_file() else f"report:   consilium report {text(study.folder)}"


def _cell_lines(cell: CellRecord) -> Iterator[str]:
    yield f"{_name(cell)}: {cell.status}" + (f": {cell.error}" if cell.error else "")
    yield from _claim_lines(cell.privacy)


def _claim_lines(privacy: PrivacyEvidence) -> Iterator[str]:
    """What is claimed, rounded up as in the report, and whether its noise is secret."""
    if privacy.epsilon is None:
        yield "no claim of differential privacy"
        return
    delta = "delta not stated" if privacy.delta is None else round_up(privacy.delta)
    against = sorted({claim.against for claim in privacy.claims if claim.against})
    yield (
        f"({round_up(privacy.epsilon)}, {delta})-differentially private per {privacy.unit or 'unnamed unit'}, "
        f"{privacy.adjacency or 'adjacency not stated'}, against {' and '.join(against) or 'an unnamed adversary'}: "
        "the largest epsilon of any site"
    )
    if any(claim.noise.startswith("replayable") for claim in privacy.claims):
        yield (
            "simulation: the noise can be recomputed from the seed, so do not release this model as private; "
            "epsilon says what the method guarantees with noise that nobody can recompute"
        )


def _figures(cell: CellRecord) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title_justify="left", box=SIMPLE_HEAD)
    for heading in ("of", "measure", "value", "interval", "chance", "n"):
        table.add_column(heading, justify="left" if heading in ("of", "measure") else "right", overflow="fold")
    for of, measures in (("model", cell.utility), ("cost", cell.cost)):
        _add(table, of, measures)
    for attack in cell.attacks:
        if attack.status == "ok":
            _add(table, attack.name, attack.measures)
        else:
            table.add_row(attack.name, one_line(f"{attack.status}: {attack.error or ''}"), *[""] * 4)
    return table


def _add(table: Table, of: str, measures: Sequence[Measure]) -> None:
    from ..report.load.numbers import interval, number, style_of

    for row, measure in enumerate(measures):
        style = style_of(measure)
        table.add_row(
            "" if row else of,
            measure.name,
            number(measure.value, style) if measure.value is not None else measure.reason or "undefined",
            interval(measure.low, measure.high, style),
            "" if measure.chance is None else number(measure.chance, style),
            f"{measure.n}{f' of {measure.unit_count} patients' if measure.unit_count else ''}" if measure.n else "",
        )


def _notes(cell: CellRecord, folder: Path) -> Iterator[str]:
    for line in (cell.altered, cell.unsealed):
        if line:
            yield line
    yield f"everything that is stored: consilium show {text(folder)} --json"


def _name(cell: CellRecord) -> str:
    infected = "" if cell.infected_by == "none" else f", infected by {cell.infected_by}"
    return f"{cell.cell.arm} (seed {cell.cell.seed}{infected})"
