"""Objects in place of tables: a module, arrays or a DataFrame, stored in the study's folder under their SHA-256.

    model = net                                       an nn.Module: its weights are the first ones
    data = (x, y)                                     or {"x": x, "y": y, "units": patients, "keys": hospitals, ...}
                                                      and attributes: "sex": sex, "attributes": ["sex"]
    data = {"frame": df, "label": "outcome", ...}     a pandas DataFrame; the other keys are those of kind "table"

They are written when the study is planned, prepared or run, into OUT/STUDY/inputs and nowhere else, readable by their
owner alone: other processes, a resumed run and :func:`consilium.test_set` need them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from consilium.core.code_file import NOTEBOOK
from consilium.core.errors import Refused
from consilium.core.live_source import live_source
from consilium.core.stored_input import write_input
from consilium.data.files.attribute_arrays import attribute_arrays
from consilium.data.files.layout import NAMES
from consilium.learn.user_code.skeleton import SKELETON, TORCH, classes_of, from_skeleton, skeleton, tensors_of

__all__ = ["has_objects", "stored_tables"]

_ALIASES = {"patients": "units", "hospitals": "keys"}
_FRAME = "frame"


def has_objects(tables: Mapping[str, Any]) -> bool:
    """Whether data or model are objects and no tables."""
    return isinstance(tables.get("model"), nn.Module) or _is_data(tables.get("data"))


def stored_tables(tables: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """``tables`` with each object stored below the study's ``folder`` and named there.

    Raises Refused: an object that cannot be stored as it is.
    """
    stored: dict[str, object] = dict(tables)
    if isinstance(tables.get("model"), nn.Module):
        stored["model"] = _model_table(tables["model"], folder)
    if _is_data(tables.get("data")):
        stored["data"] = _data_table(tables["data"], folder)
    return stored


def _is_data(raw: object) -> bool:
    if _is_frame(raw) or _is_array(raw) or isinstance(raw, tuple | list):
        return True
    return isinstance(raw, Mapping) and any(_is_array(value) or _is_frame(value) for value in raw.values())


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray | Tensor)


def _is_frame(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas" and type(value).__name__ == "DataFrame"


def _data_table(raw: Any, folder: Path) -> Mapping[str, Any]:
    if _is_frame(raw):
        remedy = 'say which column is asked for: data = {"frame": df, "label": "COLUMN"}'
        raise Refused("a DataFrame has no label by itself", remedy=remedy, where="data")
    if not isinstance(raw, Mapping):
        _check_pair(raw)
        raw = dict(zip(("x", "y"), raw, strict=True))
    if _FRAME in raw:
        return _frame_table(raw, folder)
    named = {_ALIASES.get(name, name): value for name, value in raw.items()}
    if _is_array(named.get("sites")) or isinstance(named.get("sites"), list):
        named["keys"] = named.pop("sites")
    read = {*NAMES, *_attribute_names(named)}
    arrays = {name: _array(value, name) for name, value in named.items() if name in read}
    others = {name: value for name, value in named.items() if name not in read}
    for name, value in others.items():
        if _is_array(value):
            reason = f"there is no array {name!r} in a data set"
            remedy = f'if it is known of each record and no input: attributes = ["{name}"]; else the names are '
            raise Refused(reason, remedy=remedy + ", ".join(sorted(NAMES)), where=f"data.{name}")
    if "keys" in arrays and "partition" not in others:
        others["partition"] = "by-key"
        others.setdefault("sites", len(np.unique(arrays["keys"])))
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return {"kind": "npz", **others, "path": write_input(folder, file.getvalue(), "npz")}


def _check_pair(raw: Any) -> None:
    """Refuse what is no pair of arrays, by its types: no value of a record is shown."""
    parts = raw if isinstance(raw, tuple | list) else (raw,)
    if len(parts) == 2 and all(map(_is_array, parts)):
        return
    types = ", ".join(type(part).__name__ for part in parts[:5]) + (", ..." if len(parts) > 5 else "")
    reason = f"it is a {type(raw).__name__}" + (f" of {types or 'nothing'}" if parts is raw else "")
    remedy = "give a pair of NumPy arrays or tensors, (x, y): numpy.asarray(...)"
    if any(map(_is_frame, parts)):
        remedy += '; or one DataFrame with its label: {"frame": df, "label": "COLUMN"}'
    raise Refused(reason, remedy=remedy, where="data")


def _attribute_names(named: Mapping[str, Any]) -> set[str]:
    """The arrays that ``attributes`` names, and their parts by split."""
    attributes = named.get("attributes", ())
    if isinstance(attributes, str) or not isinstance(attributes, Sequence):
        return set()  # refused where the table of data is read
    return {name for arrays in attribute_arrays([str(one) for one in attributes], named).values() for name in arrays}


def _array(value: Any, name: str) -> np.ndarray[Any, Any]:
    if np.ma.is_masked(value):
        masked = int(np.ma.getmaskarray(value).sum())
        reason = f"{name} is a masked array with {masked} masked values, which a file loses"
        remedy = "fill them: x.filled(constant); or leave their records out"
        raise Refused(reason, remedy=remedy, where=f"data.{name}")
    if isinstance(value, Tensor):
        if value.dtype == torch.bfloat16:
            reason = f"{name} is a tensor of bfloat16, which no array of NumPy holds"
            raise Refused(reason, remedy=f"convert it: {name}.float()", where=f"data.{name}")
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype == object:
        other = next((one for one in array.flat if not isinstance(one, str)), None)
        if not all(isinstance(one, str) for one in array.flat):
            reason = f"{name} holds Python objects that are no texts, such as one of type {type(other).__name__}"
            raise Refused(reason, remedy="give numbers, or texts", where=f"data.{name}")
        array = array.astype(str)
    return np.ascontiguousarray(array)


def _frame_table(raw: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    frame = raw[_FRAME]
    if not _is_frame(frame):
        reason = f"frame is a {type(frame).__name__}, and no pandas DataFrame"
        raise Refused(reason, remedy='give data = {"frame": df, "label": "COLUMN"}', where="data.frame")
    if frame.index.nlevels > 1 or frame.index.name is not None or not _is_counted(frame.index):
        remedy = "call df.reset_index() to keep it as a column, or df.reset_index(drop=True)"
        raise Refused("the frame has an index, which is no column", remedy=remedy, where="data.frame")
    if frame.columns.nlevels > 1:
        raise Refused("the frame has several levels of columns", remedy="give each column one name", where="data.frame")
    others = {name: value for name, value in raw.items() if name not in (_FRAME, "kind")}
    data = frame.to_csv(index=False, lineterminator="\n").encode()
    return {"kind": "table", **others, "path": write_input(folder, data, "csv")}


def _is_counted(index: Any) -> bool:
    """Whether the index only counts rows, as after a selection of some."""
    return bool(index.dtype.kind in "iu")


def _model_table(module: nn.Module, folder: Path) -> Mapping[str, Any]:
    try:
        structure, tensors = skeleton(module), tensors_of(module)
        _check_rebuilt(structure, tensors)
    except Refused as error:
        raise error.at("model") from error.__cause__
    plain = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    data = save(plain, {SKELETON: json.dumps(structure)})
    code = any(not path.startswith(TORCH) for path in classes_of(structure))
    allowed = {"allow-code": True} if code else {}
    return {"kind": "stored-module", "path": write_input(folder, data, "safetensors"), **allowed}


def _check_rebuilt(structure: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse a module whose copy is another, or whose source cannot be known."""
    again = from_skeleton(structure, tensors)
    if skeleton(again) != structure:
        reason = "the model is another one when it is built again from its attributes"
        raise Refused(reason, remedy="keep plain values in its attributes, and do the rest in forward")
    for layer in again.modules():
        if type(layer).__module__ == NOTEBOOK:
            live_source(type(layer))
