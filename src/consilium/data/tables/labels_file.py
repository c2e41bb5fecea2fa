"""A CSV of labels beside a folder of pictures: one row a picture, found by the name of its file.

    file, effusion, nodule, patient, sex              image, findings
    a/01.png, 1, 0, 7, F                              01.png, Effusion|Nodule

The column of the file has a path below the folder, or a name that no other picture there bears.  Rows without a picture
and pictures without a row are counted: sets are often handed out in parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from consilium.core.catalogue import nearest
from consilium.core.errors import Refused
from consilium.core.records import Omission
from consilium.data.checks.gap_words import GAPS, is_spreadsheet_error
from consilium.data.checks.omissions import first
from consilium.data.columns.gap_cells import texts_among
from consilium.data.columns.spelling import plain_text
from consilium.data.tables.csv_rows import read_csv

__all__ = ["LabelRows", "read_labels"]


@dataclass(frozen=True)
class LabelRows:
    """The pictures that have a row, by their paths; the number of each one's row, and its cells by column."""

    files: tuple[str, ...]
    rows: tuple[int, ...]
    cells: dict[str, tuple[str, ...]]
    omitted: tuple[Omission, ...]

    def gaps(self, name: str, missing: Sequence[str], declared: Sequence[str] = ()) -> list[bool]:
        """Which cells of column ``name`` say that nothing is known; a word that is ``declared`` says something.

        Raises Refused: a cell holds an error of a spreadsheet.
        """
        words, cells = {*GAPS, *missing}, self.cells[name]
        gaps = texts_among(set(cells), words - set(declared)) - set(declared)
        for cell, row in zip(cells, self.rows, strict=True):
            if is_spreadsheet_error(cell) and cell not in gaps and cell not in declared:
                raise Refused(
                    f"column {name!r}, row {row}, holds {cell!r}: a spreadsheet shows it in the place of a value",
                    remedy=f"mend the cell and export it again; or add {cell!r} to missing if the value is not known",
                    where="missing",
                )
        return [cell in gaps for cell in cells]

    def check_complete(self, names: Sequence[str], missing: Sequence[str], declared: Sequence[str]) -> None:
        """Refuse a gap in any of the columns ``names``.

        Raises Refused: a gap, by its row.
        """
        for name in names:
            gaps = self.gaps(name, missing, declared)
            if any(gaps):
                place = gaps.index(True)
                reason = f"column {name!r}, row {self.rows[place]}, says nothing: it holds {self.cells[name][place]!r}"
                remedy = "fill it in, or set drop-missing = true to leave such pictures out"
                raise Refused(reason, remedy=remedy, where="drop-missing")

    def without_gaps(self, names: Sequence[str], missing: Sequence[str], declared: Sequence[str]) -> LabelRows:
        """Those that have no gap in any of the columns ``names``; the others are counted.

        Raises Refused: none is left.
        """
        gaps = [any(flags) for flags in zip(*(self.gaps(name, missing, declared) for name in names), strict=True)]
        if all(gaps):
            reason = f"each picture has a gap in {', '.join(names)}"
            raise Refused(reason, remedy="fill them in, or name another column", where="drop-missing")
        if not any(gaps):
            return self
        places = [place for place, gap in enumerate(gaps) if not gap]
        return LabelRows(
            tuple(self.files[place] for place in places),
            tuple(self.rows[place] for place in places),
            {name: tuple(cells[place] for place in places) for name, cells in self.cells.items()},
            (*self.omitted, Omission(f"pictures with a gap in {', '.join(names)}", sum(gaps))),
        )


def read_labels(
    file: Path,
    separator: str,
    file_column: str,
    columns: dict[str, str],
    pictures: Sequence[str],
    missing: Sequence[str] = (),
) -> LabelRows:
    """The rows of ``file`` for ``pictures``, paths below the folder in order.

    ``columns`` are those that knobs name, by knob.

    Raises Refused: a column that is not there, a picture of two rows, a name of two pictures, no picture with a row, or
    a word of ``missing`` that no cell holds.
    """
    names, rows = read_csv(file, None, separator)
    for word in missing:
        if not any(texts_among(set(cells), [word]) for cells in zip(*rows, strict=True)):
            raise Refused(f"it names {word!r}, which no cell contains", remedy="take it out", where="missing")
    for knob, name in {"file": file_column, **columns}.items():
        if names.count(plain_text(name)) != 1:
            count = names.count(plain_text(name))
            reason = f"{file.name} has {'no column' if not count else f'{count} columns'} {name!r}"
            raise Refused(reason, remedy="rename one" if count else nearest(name, names), where=knob)
    place = names.index(plain_text(file_column))
    row_of = _row_of([row[place] for row in rows], pictures, file.name)
    files = tuple(picture for picture in pictures if picture in row_of)
    if not files:
        raise Refused(
            f"no picture has a row in {file.name}: row 1 names {rows[0][place] if rows else ''!r}, and the first "
            f"picture is {pictures[0]!r}",
            remedy="name the column that holds the pictures' names: file = ..."
            + (", or write them with their leading zeros" if _lost_zeros(rows, place, pictures) else ""),
            where="labels",
        )
    numbers = [row_of[one] for one in files]
    cells = {name: tuple(rows[k][column] for k in numbers) for column, name in enumerate(names)}
    unlabelled = [one for one in pictures if one not in row_of]
    return LabelRows(
        files, tuple(k + 1 for k in numbers), cells, tuple(_omitted(unlabelled, len(rows) - len(files), file.name))
    )


def _lost_zeros(rows: Sequence[Sequence[str]], place: int, pictures: Sequence[str]) -> bool:
    """Whether a name is that of a picture but for zeros before it, as a spreadsheet takes them."""
    bare = {PurePosixPath(one).name.lstrip("0") for one in pictures}
    return any(row[place].lstrip("0") in bare for row in rows)


def _omitted(unlabelled: Sequence[str], idle: int, name: str) -> Iterator[Omission]:
    if unlabelled:
        yield Omission(f"pictures without a row in {name}", len(unlabelled), "", first(unlabelled))
    if idle:
        yield Omission(f"rows of {name} without a picture", idle)


def _row_of(cells: Sequence[str], pictures: Sequence[str], where: str) -> dict[str, int]:
    """The row of each picture that has one, from 0."""
    names = Counter(PurePosixPath(one).name for one in pictures)
    by_name = {PurePosixPath(one).name: one for one in pictures}
    known, row_of = frozenset(pictures), dict[str, int]()
    for row, cell in enumerate(cells):
        path = cell.replace("\\", "/").removeprefix("./")
        picture = path if path in known else by_name.get(path)
        if picture is None:
            continue
        if path not in known and names[path] > 1:
            reason = f"row {row + 1} of {where} names {path!r}, and {names[path]} pictures bear that name"
            raise Refused(reason, remedy="write their paths below the folder", where="labels")
        if picture in row_of:
            reason = f"rows {row_of[picture] + 1} and {row + 1} of {where} both name {path!r}"
            raise Refused(reason, remedy="keep one row for each picture", where="labels")
        row_of[picture] = row
    return row_of
