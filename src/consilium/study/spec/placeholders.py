"""What ``consilium init`` leaves to be filled in: lines of a study file that nobody but its user can write.

A range or a list of categories is a public constant; read from the records it would be private (LAWS 9).  So a new
study names the columns and leaves their bounds and words open, and it is refused until every such line is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.plain import Json

__all__ = ["HIGH", "LOW", "WORD", "open_declarations", "open_lines", "refuse_placeholders"]

LOW, HIGH, WORD = "<low>", "<high>", "<word>"
_OPEN = re.compile("|".join(f'"{mark}"' for mark in (LOW, HIGH, WORD)))


def refuse_placeholders(tables: Json, path: Path) -> None:
    """Refuse a study whose values hold a placeholder, naming every line that does.

    Raises Refused: a line of ``path`` is still to be filled in.
    """
    if not any(text in (LOW, HIGH, WORD) for text in _texts(tables)):
        return
    lines = list(open_lines(path.read_text(encoding="utf-8-sig")))
    remedy = f"write what you know of the columns in place of {LOW}, {HIGH} and {WORD}, without looking at the records"
    reason = f"line {lines[0]} is" if len(lines) == 1 else f"lines {_spans(lines)} are"
    raise Refused(f"{reason} to be filled in", remedy=remedy, where=str(path))


def open_lines(text: str) -> Iterator[int]:
    """The numbers, from 1, of the lines of a study file with a placeholder; comments do not count."""
    return (number for number, line in enumerate(text.splitlines(), 1) if _OPEN.search(line.partition("#")[0]))


def _spans(numbers: Sequence[int]) -> str:
    """Rising ``numbers`` as one reads them: 3 to 5, 9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def open_declarations(inputs: Inputs) -> str:
    """The lines to paste and to fill in: names of columns, no value."""
    open_columns = [column for column in inputs.columns if not column.declared]
    bounds = [f'["{one.name}", "{LOW}", "{HIGH}"]' for one in open_columns if not one.words]
    words = [f'["{one.name}", "{WORD}", "{WORD}"]' for one in open_columns if one.words]
    lines = (("ranges", bounds), ("categories", words))
    return "; ".join(f"{name} = [{', '.join(items)}]" for name, items in lines if items)
