"""The text of a new study: its data as they were looked at, a small model, an arm with privacy, and two attacks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from ..study.spec.placeholders import HIGH, LOW, WORD

__all__ = ["DataTable", "quoted", "study_text"]

_HINT = '# with several records of a patient write unit = "patient" beside clip: the claim is then per patient'


@dataclass(frozen=True)
class DataTable:
    """What ``[data]`` says: its source, lines of the source's own, and how the records are divided.

    ``ranges`` and ``categories`` are names of columns whose constants are to be filled in.  ``patients``:
    several records are of one, so the claim is per patient; None: it was not seen whether they are.
    """

    kind: str
    lines: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    sites: int = 3
    partition: str = "iid"
    pictures: bool = False
    patients: bool | None = False
    attacks: tuple[str, ...] = field(default=("pgd", "loss-threshold"))

    @property
    def is_open(self) -> bool:
        """Whether a line is to be filled in."""
        return bool(self.ranges or self.categories) or any(WORD in line or LOW in line for line in self.lines)


def study_text(name: str, data: Path, table: DataTable) -> str:
    """The study as TOML."""
    return "\n".join([*_head(name, table.is_open), *_data(data, table), *_rest(table), ""])


def quoted(text: str) -> str:
    """A text as a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _head(name: str, is_open: bool) -> list[str]:
    notice = [
        f"# To be filled in: what stands as {LOW}, {HIGH} and {WORD}. These are public constants: write what you know",
        "# of the columns (from a codebook, a device, a guideline), not what the records hold.",
    ]
    return [
        "# Written by `consilium init`, from names in the data alone; `consilium plan` says what it would do.",
        *(notice if is_open else []),
        f"name = {quoted(name)}",
        "threads = 1",
        "",
    ]


def _data(data: Path, table: DataTable) -> list[str]:
    constants = [
        *_listed("ranges", [f"[{quoted(column)}, {quoted(LOW)}, {quoted(HIGH)}]" for column in table.ranges]),
        *_listed("categories", [f"[{quoted(column)}, {quoted(WORD)}, {quoted(WORD)}]" for column in table.categories]),
    ]
    return [
        "[data]",
        f"kind = {quoted(table.kind)}",
        f"path = {quoted(str(data))} # relative to where consilium is started",
        *table.lines,
        *constants,
        f"sites = {table.sites}",
        f"partition = {quoted(table.partition)}",
        "",
    ]


def _listed(name: str, items: list[str]) -> list[str]:
    return [f"{name} = [", *(f"    {item}," for item in items), "]"] if items else []


def _rest(table: DataTable) -> list[str]:
    model = ['kind = "cnn"', "width = 8"] if table.pictures else ['kind = "mlp"', "hidden = 32"]
    unit = ', unit = "patient"' if table.patients else ""
    hint = [_HINT] if table.patients is None else []
    radius = "0.03 # of the range of the inputs, [0, 1]"
    attacks = [line for kind in table.attacks for line in _attack(kind, radius)]
    return [
        "[model]",
        *model,
        "",
        "[federation]",
        'kind = "fed-avg"',
        "rounds = 10",
        "batch = 16",
        "lr = 0.1",
        "",
        '[vary] # every choice is trained and attacked; "none" is always one of them',
        f'privacy = [{{ kind = "dp-sgd", epsilon = 8.0, delta = 1e-5, clip = 1.0{unit} }}]',
        *hint,
        *attacks,
    ]


def _attack(kind: str, radius: str) -> list[str]:
    return ["", "[[attacks]]", f"kind = {quoted(kind)}", *([f"radius = {radius}"] if kind == "pgd" else [])]
