"""A folder of pictures: which classes its folders name, and how its files are called; no picture is opened."""

from __future__ import annotations

from pathlib import Path

from ..core.count_words import count_words
from ..core.errors import Refused
from ..data.files.split_names import split_named
from ..data.pictures.hidden_files import is_hidden, is_system_file
from ..data.pictures.picture_tree import PICTURES
from .study_template import DataTable

__all__ = ["picture_data"]


def picture_data(folder: Path) -> DataTable:
    """What a study's ``[data]`` says of this folder.

    Raises Refused: there are not two folders with pictures.
    """
    classes = _classes(folder)
    if len(classes) < 2:
        remedy = "give a folder with one folder of .png or .jpg pictures for each class"
        raise Refused(f"{folder} has {count_words(len(classes), 'folder')} with pictures", remedy=remedy)
    return DataTable(
        kind="image-folder",
        lines=(
            "size = 28 # pixels that each picture is scaled to",
            "channels = 1 # 3: colour",
            "# units = '^(p\\d+)_' # finds the patient in a file's name; without it a file is a patient of its own",
        ),
        pictures=True,
    )


def _classes(folder: Path) -> list[Path]:
    """The folders that hold pictures, below train, val and test if those are there."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_unseen(path)]
    split = next((path for path in inside if split_named(path.name) is not None), None)
    return _classes(split) if split is not None else [path for path in inside if _has_picture(path)]


def _has_picture(folder: Path) -> bool:
    return any(path.suffix.lower() in PICTURES.endings for path in folder.iterdir() if not _is_unseen(path))


def _is_unseen(path: Path) -> bool:
    """Whether the source does not read it, for its name."""
    return is_hidden(path) or is_system_file(path)
