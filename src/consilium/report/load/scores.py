"""The files beside the evidence: per-example scores and example images, read from safetensors, one key at a time.

The worst case per image over attacks (LAWS 20) is an AND over the attacks' ``correct`` masks: an image counts only if
it withstood all of them, so the figure is at most the smallest of the attacks' own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from consilium.core.files import regular
from consilium.core.finding import Measure
from consilium.measure.clustered import share_measure

from .records import CellRecord, FindingRecord

__all__ = ["read_arrays", "read_examples", "read_records", "read_scores", "worst_case_accuracy"]

_Made = TypeVar("_Made")

_NAME = "worst_case"
_EXAMPLE = "example/"


def read_scores(path: Path | None) -> dict[str, NDArray[np.float64]]:
    """Every per-example score ``(n,)`` of a finding by name; empty where there is no file or it cannot be read."""
    return _read(path, lambda key: None if key.startswith(_EXAMPLE) else key.rpartition("/")[2])


def read_examples(path: Path | None) -> dict[str, NDArray[np.float64]]:
    """The example stacks of a finding by name, such as ``clean (n, channels, height, width)``; likewise empty."""
    return _read(path, lambda key: key.removeprefix(_EXAMPLE) if key.startswith(_EXAMPLE) else None)


def read_records(path: Path | None) -> dict[str, NDArray[Any]]:
    """Every per-record tensor ``(n,)`` of a file as it was stored, ids in full; likewise empty."""
    return {name: array for name, array in read_arrays(path).items() if array.ndim == 1}


def read_arrays(path: Path | None) -> dict[str, NDArray[Any]]:
    """Every tensor of a file with a row a record, of any width, as :func:`read_records` has those of one number."""
    names = _read_with(path, lambda key: None if key.startswith(_EXAMPLE) else key, lambda tensor: tensor)
    return {name: (t.double() if t.is_floating_point() else t).numpy() for name, t in names.items()}


def _read(path: Path | None, name: Callable[[str], str | None]) -> dict[str, NDArray[np.float64]]:
    return _read_with(path, name, lambda tensor: tensor.double().numpy())


def _read_with(
    path: Path | None, name: Callable[[str], str | None], convert: Callable[[Tensor], _Made]
) -> dict[str, _Made]:
    if path is None:
        return {}
    try:
        with safe_open(regular(path), framework="pt") as file:
            named = [(key, name(key)) for key in file.keys()]  # noqa: SIM118 (safe_open is no mapping)
            return {short: convert(file.get_tensor(key)) for key, short in named if short}
    except (OSError, SafetensorError):
        return {}


def worst_case_accuracy(cell: CellRecord) -> Measure:
    """Share of test images that withstood every evasion attack of the cell, with a Wilson interval, by unit
    where units have several.

    The smallest of the attacks' own figures is used where masks are missing: an upper bound, as the reason states.
    """
    attacks = [f for f in cell.aimed("evasion") if f.status == "ok"]
    figures = [m for m in (f.measure("robust_accuracy") for f in attacks) if m is not None and m.value is not None]
    if not figures:
        return Measure.undefined(_NAME, "no evasion attack has a figure here")
    values, chance = [m.value for m in figures if m.value is not None], figures[0].chance
    masks = [mask for mask in (_correct(f) for f in attacks) if mask is not None]
    planned = len(cell.aimed("evasion"))
    if len(masks) == planned and len({len(mask) for mask in masks}) == 1 and len(masks[0]) > 0:
        stood = np.logical_and.reduce(masks)
        return share_measure(_NAME, torch.from_numpy(stood), _units(cell, len(stood)), chance)
    return Measure(
        _NAME, min(values), chance=chance, reason="upper bound: not every attack has its answers per image here"
    )


def _units(cell: CellRecord, n: int) -> Tensor | None:
    """The unit of each test record, where the cell's own file has them."""
    units = read_records(cell.file).get("unit")
    return None if units is None or len(units) != n else torch.from_numpy(units)


def _correct(finding: FindingRecord) -> NDArray[np.bool_] | None:
    mask = read_scores(finding.file).get("correct")
    return None if mask is None else mask.ravel() > 0.5
