"""An npz archive's arrays: their names, shapes and types; of the values only how many hospitals there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import Refused
from ..data.files.layout import NAMES
from ..study.spec.placeholders import HIGH, LOW, WORD
from .study_template import DataTable, quoted

__all__ = ["archive_data"]


def archive_data(file: Path) -> DataTable:
    """What a study's ``[data]`` says of this archive.

    Raises Refused: it cannot be read, or has no inputs and labels under the names that are read.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in NAMES}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise Refused(f"{file} cannot be read as npz: {error}", remedy="write it with numpy.savez") from None
    x, y = _first(arrays, "x", "train_images"), _first(arrays, "y", "train_labels")
    if x is None or y is None:
        remedy = "name the inputs x and the labels y, or train_images and train_labels"
        raise Refused(f"{file} has no inputs and labels of these names", remedy=remedy)
    keys, units = _first(arrays, "keys", "train_keys"), _first(arrays, "units", "train_units")
    return DataTable(
        kind="npz",
        lines=_answer(y),
        sites=3 if keys is None else min(max(len(np.unique(keys)), 2), 20),
        partition="iid" if keys is None else "by-key",
        pictures=x.ndim > 2,
        patients=units is not None and len(np.unique(units)) < len(units),
        attacks=("pgd", "loss-threshold"),
    )


def _answer(y: npt.NDArray[np.generic]) -> tuple[str, ...]:
    """The lines of the task, by the shape and the type of y."""
    if y.ndim == 1 or y.shape[1:] == (1,):
        if y.dtype.kind != "f":
            return (f"classes = [{quoted(WORD)}, {quoted(WORD)}] # the names of the labels 0, 1, ...",)
        return (
            f'task = {{ kind = "regression", low = {quoted(LOW)}, high = {quoted(HIGH)}, tolerance = {quoted(LOW)} }}',
        )
    if y.ndim == 2:
        names = ", ".join([quoted(WORD)] * y.shape[1])
        return ('task = "multi-label" # several findings for each record', f"classes = [{names}] # their names")
    return (
        'task = { kind = "masks", threshold = 0.7 } # a record is right from this mean Dice on',
        f"classes = [{quoted(WORD)}, {quoted(WORD)}] # the names of the labels 0 (background), 1, ...",
    )


def _first(arrays: dict[str, npt.NDArray[np.generic]], *names: str) -> npt.NDArray[np.generic] | None:
    return next((arrays[name] for name in names if name in arrays), None)
