"""Objects in place of tables: a module, arrays or a DataFrame, stored in the study's folder under their SHA-256.

    model = net                                       an nn.Module: its weights are the first ones
    data = (x, y)                                     or {"x": x, "y": y, "units": patients, "keys": hospitals, ...}
    data = {"frame": df, "label": "outcome", ...}     a pandas DataFrame; the other keys are those of kind "table"

They are written when the study is planned, prepared or run, into OUT/STUDY/inputs and nowhere else, readable by their
owner alone: other processes, a resumed run and :func:`consilium.test_set` need them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import Tensor, nn

from consilium.core.code_file import NOTEBOOK
from consilium.core.errors import Refused
from consilium.core.live_source import live_source
from consilium.core.stored_input import write_input
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
    if _is_frame(raw) or _is_array(raw) or (isinstance(raw, tuple | list) and any(map(_is_array, raw))):
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
        if _is_array(raw) or len(raw) != 2 or not all(map(_is_array, raw)):
            kinds = [type(one).__name__ for one in ([raw] if _is_array(raw) else raw)]
            reason = f"data holds {', '.join(kinds[:5])}{', ...' * (len(kinds) > 5)}, and not the two arrays x and y"
            remedy = 'give data = (x, y), or {"x": x, "y": y, "units": patients, "keys": hospitals}'
            raise Refused(reason, remedy=remedy, where="data")
        raw = dict(zip(("x", "y"), raw, strict=True))
    if _FRAME in raw:
        return _frame_table(raw, folder)
    named = {_ALIASES.get(name, name): value for name, value in raw.items()}
    if _is_array(named.get("sites")) or isinstance(named.get("sites"), list):
        named["keys"] = named.pop("sites")
    arrays = {name: _array(value, name) for name, value in named.items() if name in NAMES}
    others = {name: value for name, value in named.items() if name not in NAMES}
    for name, value in others.items():
        if _is_array(value):
            reason = f"there is no array {name!r} in a data set"
            raise Refused(reason, remedy=f"the names are {', '.join(sorted(NAMES))}", where=f"data.{name}")
    if "keys" in arrays and "partition" not in others:
        others["partition"] = "by-key"
        others.setdefault("sites", len(np.unique(arrays["keys"])))
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return {"kind": "npz", **others, "path": write_input(folder, file.getvalue(), "npz")}


def _array(value: Any, name: str) -> np.ndarray[Any, Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype == object:
        if not all(isinstance(one, str) for one in array.flat):
            reason = f"{name} holds Python objects that are no texts, such as {next(iter(array.flat))!r:.80}"
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
