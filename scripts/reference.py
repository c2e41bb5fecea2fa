"""Writes docs/reference from the code, so that it cannot disagree with it; a test compares the two.

entries.md    what a study may name: kind, one-line doc, source, and what each parameter means (from the catalogue)
cli.md        every command with its arguments and options (from the command line itself)
python.md     what one imports: signature, docstring, source (scripts/python_page.py, from the source)

It also fills the blocks about rooms and floors in the pages that have one (scripts/rooms.py), and the report's terms in
the glossary (scripts/glossary.py).
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glossary
import rooms
from consilium.core.catalogue import REQUIRED, ROOMS, Card, cards
from consilium.core.listing import values_text
from consilium.core.parameters import parameters
from python_page import python_page

__all__ = ["FOLDER", "command_page", "entry_page", "main", "pages"]

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by scripts/docs from the code; edit the code. -->\n\n"

HEADINGS = {
    "source": "Data: sources (`data.kind`)",
    "partition": "Data: partitions (`data.partition`)",
    "model": "Models (`model.kind`)",
    "task": "Tasks (`data.task`)",
    "algorithm": "Federation: algorithms (`federation.kind`)",
    "data": "Defences of the data",
    "training": "Defences of the training",
    "update": "Defences of the update",
    "merge": "Defences of the merge",
    "model defence": "Defences of the model",
    "answer": "Defences of the answer",
    "detection": "Defences that reject inputs",
}


def pages() -> dict[str, str]:
    """File name -> text of every page."""
    return {"entries.md": entry_page(), "cli.md": command_page(), "python.md": python_page()}


def entry_page() -> str:
    """The catalogue as tables, one per room."""
    parts = [
        NOTE + "# What a study may name\n",
        "One entry is one file; its kind is the file's name. `consilium list` prints the same, `consilium list --json` "
        "for programs; `consilium show KIND` prints what is below.\n",
    ]
    for room, role in ROOMS.items():
        found = cards(room)
        if found:
            parts += [f"## {_heading(room, role)}\n", "\n".join(_table(found)) + "\n"]
    return "\n".join(parts)


def command_page() -> str:
    """Every command, its arguments and options; read from the program, not from its terminal output."""
    parts = [
        NOTE + "# The command line\n",
        _paragraphs(importlib.import_module("consilium.cli.commands").__doc__) + "\n",
    ]
    for name, command in sorted(_commands().items()):
        parts.append(f"## consilium {name}\n\n{_paragraphs(command.help)}\n")
        rows = [_option(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        if rows:
            parts.append("\n".join(["| argument or option | what it does | default |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"wrote {FOLDER / name}")
    glossary.PAGE.write_text(glossary.filled(glossary.PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote the report's terms in {glossary.PAGE}")
    for page in rooms.PAGES:
        (rooms.ROOT / page).write_text(rooms.filled(page), encoding="utf-8")
        print(f"wrote the rooms in {page}")


def _heading(room: str, role: str) -> str:
    if room.startswith("attack/"):
        return f"Attacks: {role}"
    return HEADINGS["model defence" if room == "defend/model" else role]


def _table(found: tuple[Card, ...]) -> Iterator[str]:
    yield "| kind | what it does | source |"
    yield "|---|---|---|"
    for card in found:
        yield f"| `{card.kind}` | {_cell(card.doc)} | {_cell(card.source)} |"
    for card in found:
        if card.knobs:
            yield f"\nParameters of `{card.kind}`:\n"
            yield from _parameters(card)


def _parameters(card: Card) -> Iterator[str]:
    yield "| parameter | meaning | default | values |"
    yield "|---|---|---|---|"
    for one in parameters(card):
        default = "must be given" if one.default == REQUIRED else _toml(one.default)
        shown = default if one.default in (REQUIRED, None) else f"`{default}`"
        yield f"| `{one.name}` | {_cell(one.meaning)} | {shown} | {_cell(values_text(one))} |"


def _toml(value: Any) -> str:
    """A default as a study would write it; TOML has no null, so None is shown as absent."""
    if value is None:
        return "left out"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _cell(text: str) -> str:
    """Text that may stand in a table: no bars, no reStructuredText marks."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def _paragraphs(text: str | None) -> str:
    return inspect.cleandoc((text or "").replace("\b", "").replace("\f", "")).replace("``", "`")


def _commands() -> dict[str, Any]:
    typer = importlib.import_module("typer")
    program = importlib.import_module("consilium.cli.commands")
    app = next(value for value in vars(program).values() if isinstance(value, typer.Typer))
    return dict(_leaves(typer.main.get_command(app), ()))


def _leaves(group: Any, above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The commands of a group and of the groups in it, by the words that call them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, (*above, name))
        elif not command.hidden:
            yield " ".join((*above, name)), command


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = _cell(f"`{(parameter.metavar or parameter.name).upper()}`")
    default = "" if parameter.default in (None, False, ()) or callable(parameter.default) else f"`{parameter.default}`"
    return (
        f"| {names} | {_cell(getattr(parameter, 'help', '') or '')} | {'required' if parameter.required else default} |"
    )


if __name__ == "__main__":
    main()
