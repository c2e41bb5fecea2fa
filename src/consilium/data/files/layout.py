"""The layout of arrays in an npz: ``x, y`` in one piece, or MedMNIST's ``{train,val,test}_images`` and ``_labels``.

Beside each there may be ``units`` (the patient of each record) and ``keys`` (its natural site), of any values.
``columns`` names the features ``(d,)`` of inputs ``(n, d)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.core.task import Task
from consilium.data.checks.coarse_copies import coarse_copies
from consilium.data.checks.scales import check_depth
from consilium.data.dataset import TEST, TRAIN, VALIDATION

from .arrays import check_digits, identities, inputs, labels, numbered, token_inputs
from .foreign import check_axes, check_label_form, check_unread_names
from .meaning import COLUMNS, meaning_of
from .split_names import check_one_spelling, split_named
from .task_labels import task_labels

__all__ = ["NAMES", "ArrayDataset", "laid_out", "standard_names"]

_Arrays = Mapping[str, npt.NDArray[Any]]
_Parts = list[tuple[int | None, tuple[str, ...]]]
_PLAIN: dict[int | None, tuple[str, ...]] = {None: ("x", "y", "units", "keys")}
_SPLIT: dict[int | None, tuple[str, ...]] = {
    split: (f"{name}_images", f"{name}_labels", f"{name}_units", f"{name}_keys")
    for split, name in ((TRAIN, "train"), (VALIDATION, "val"), (TEST, "test"))
}
NAMES = frozenset(name for names in (*_PLAIN.values(), *_SPLIT.values(), (COLUMNS,)) for name in names)
"""Every array name that is read."""


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """Records, their split and their natural sites (each None if not given), the names, what inputs mean.

    ``copies`` are notes on records of two splits that differ by rounding alone.
    """

    records: Records
    split: Tensor | None
    keys: Tensor | None
    key_names: tuple[str, ...]
    inputs: Inputs
    unit_names: tuple[str, ...]
    copies: tuple[str, ...] = ()


def standard_names(keys: Iterable[str], where: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Which array is which of ``NAMES``, whatever the spelling of its split, and those that are none of them.

    Refused: two spellings of one split or array, ``x, y`` beside parts of a split, and what is probably one of
    ``NAMES`` under another name.

    Raises Refused: the names are ambiguous or incomplete.
    """
    names = tuple(keys)
    split = {name: _standard(name) for name in names if name not in _PLAIN[None]}
    parts = [name for name, standard in split.items() if standard]
    check_one_spelling([name.rpartition("_")[0] for name in parts], where)
    _check_once(parts, split, where)
    plain = [name for name in names if name in _PLAIN[None]]
    if parts and ("x" in plain or "y" in plain):
        reason = f"{plain[0]!r} is given beside {parts[0]!r}: is there a split, or is there none?"
        raise Refused(reason, remedy="store x and y, or {train,val,test}_images and _labels", where=where)
    known = {name: split[name] for name in parts} if parts else {name: name for name in plain}
    known |= {name: name for name in names if name == COLUMNS}
    unread = tuple(name for name in names if name not in known)
    check_unread_names(unread, known.values(), where)
    return known, unread


def _check_once(parts: list[str], standard: Mapping[str, str], where: str) -> None:
    """Refuse ``train_images`` beside ``train_Images``."""
    spellings: dict[str, str] = {}
    for name in parts:
        if spellings.setdefault(standard[name], name) != name:
            reason = f"{spellings[standard[name]]!r} and {name!r} both name {standard[name]}"
            raise Refused(reason, remedy="put them together, or rename one", where=where)


def _standard(name: str) -> str:
    """``valid_images`` -> ``val_images``; empty for what names no part of a split."""
    prefix, _, rest = name.rpartition("_")
    split = split_named(prefix)
    if split is None or rest.casefold() not in ("images", "labels", "units", "keys"):
        return ""
    return f"{('train', 'val', 'test')[split]}_{rest.casefold()}"


def laid_out(arrays: _Arrays, where: str, task: Task | None = None, tokens: int = 0) -> ArrayDataset:
    """The records in ``arrays``; refused, naming the array, where one is missing or does not fit.

    Labels are one class a record unless ``task`` has others; inputs are ids below ``tokens`` where that is not 0.

    Raises Refused: parts of a split have different shapes, or an array is missing.
    """
    parts = _parts(arrays, where)
    for _, names in parts:
        check_axes(arrays[names[0]], f"{where}[{names[0]}]")
        if task is None or task.exclusive:
            check_label_form(arrays[names[1]], f"{where}[{names[1]}]")
    if not tokens:
        check_depth([arrays[names[0]] for _, names in parts], f"{where}[{parts[0][1][0]}]")
    read_inputs = partial(token_inputs, tokens=tokens) if tokens else inputs
    x = [read_inputs(arrays[names[0]], where=f"{where}[{names[0]}]") for _, names in parts]
    if len({part.shape[1:] for part in x}) > 1:
        shapes = ", ".join(str(tuple(part.shape[1:])) for part in x)
        raise Refused(f"inputs of different shapes: {shapes}", remedy="make them all one shape", where=where)
    sizes = [len(part) for part in x]
    read = labels if task is None or task.exclusive else partial(task_labels, task=task)
    y = [read(arrays[names[1]], n, where=f"{where}[{names[1]}]") for (_, names), n in zip(parts, sizes, strict=True)]
    if len({part.shape[1:] for part in y}) > 1:
        shapes = ", ".join(str(tuple(part.shape[1:])) for part in y)
        raise Refused(f"labels of different shapes: {shapes}", remedy="make them all one shape", where=where)
    units, unit_names = _group(arrays, parts, 2, sizes, where)
    keys, key_names = _group(arrays, parts, 3, sizes, where)
    marks = [torch.full((n,), split) for (split, _), n in zip(parts, sizes, strict=True) if split is not None]
    split = torch.cat(marks).to(torch.int8) if marks else None
    stored_x = [arrays[names[0]] for _, names in parts]
    meaning = meaning_of(stored_x, arrays.get(COLUMNS), units is not None, where, tokens)
    stored = [(names[0], arrays[names[0]], part.numpy()) for (_, names), part in zip(parts, x, strict=True)]
    copies, records = tuple(coarse_copies(stored)), Records.of(torch.cat(x), torch.cat(y), units)
    return ArrayDataset(records, split, keys, key_names, meaning, unit_names, copies)


def _parts(arrays: _Arrays, where: str) -> _Parts:
    """The parts of which an array is there; each must have inputs and labels, and training data must be among them."""
    layout = _PLAIN if "x" in arrays or "y" in arrays else _SPLIT
    parts = [(split, names) for split, names in layout.items() if names[0] in arrays or names[1] in arrays]
    missing = [name for _, names in parts for name in names[:2] if name not in arrays]
    if not parts or parts[0][0] not in (None, TRAIN):
        missing = ["x", "y"] if not parts else ["train_images"]
    if missing:
        raise Refused(
            f"there is no array {' or '.join(repr(name) for name in missing)} (found: {', '.join(arrays) or 'none'})",
            remedy="store x and y, or {train,val,test}_images and _labels",
            where=where,
        )
    return parts


def _group(
    arrays: _Arrays, parts: _Parts, column: int, sizes: list[int], where: str
) -> tuple[Tensor | None, tuple[str, ...]]:
    names = [part[1][column] for part in parts]
    there = [name for name in names if name in arrays]
    if not there:
        return None, ()
    if len(there) < len(names):
        raise Refused(
            f"{there[0]} is given and {next(n for n in names if n not in arrays)} is not",
            remedy="give it for every part",
            where=where,
        )
    parted = [_identities(arrays[name], n, f"{where}[{name}]") for name, n in zip(names, sizes, strict=True)]
    whole = all(arrays[name].dtype.kind in "iufb" for name in names)
    return numbered([name for part in parted for name in part], whole=whole)


def _identities(array: npt.NDArray[Any], n: int, where: str) -> list[str]:
    if array.shape not in ((n,), (n, 1)):
        raise Refused(f"shape {array.shape} for {n} records", remedy="give one value a record", where=where)
    if array.dtype.kind not in "iufbUS":
        raise Refused(f"names are of type {array.dtype}", remedy="store them as text", where=where)
    check_digits(array, where)
    return identities(array.reshape(-1).tolist(), where)
