"""``consilium init``: looks at a table, an archive of arrays or a folder of pictures and writes a study of it.

What goes into the study are names (of columns, files, folders and arrays), counts of hospitals and types, never a value
of a record: what bounds and categories there are is public only if it is declared (LAWS 9), so those lines are left to
be filled in, and the study is refused with their numbers until they are.
"""

from __future__ import annotations

from pathlib import Path

from ..core.errors import Refused
from .look_at_arrays import archive_data
from .look_at_pictures import picture_data
from .look_at_table import table_data
from .study_template import DataTable, study_text

__all__ = ["write_study"]

_TABLES = (".csv", ".csv.gz", ".tsv", ".parquet", ".pq")


def write_study(data: Path, study: Path | None = None) -> Path:
    """Write the study file and return its path; a file that is there is left as it is.

    Raises Refused: ``data`` is none of the three, or there is a file of that name.
    """
    name = _name(data)
    path = study or Path(f"{name}.toml")
    if path.exists():
        raise Refused(f"{path} exists, and init writes over nothing", remedy="name another file with --study FILE")
    text = study_text(name, data, _looked_at(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Refused(
            f"{path} exists, and init writes over nothing", remedy="name another file with --study FILE"
        ) from None
    return path


def _looked_at(data: Path) -> DataTable:
    if data.is_dir():
        return picture_data(data)
    if not data.is_file():
        raise Refused(f"there is no {data}", remedy="give a CSV file, an npz file or a folder of pictures")
    if data.suffix == ".npz":
        return archive_data(data)
    if data.name.lower().endswith(_TABLES):
        return table_data(data)
    raise Refused(f"{data} is no table, archive or folder", remedy=f"give {', '.join(_TABLES)}, .npz or a folder")


def _name(data: Path) -> str:
    """A name for the study: letters, digits and dashes of the file's."""
    stem = data.resolve().name.partition(".")[0].lower()
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in stem).split())[:40] or "study"
