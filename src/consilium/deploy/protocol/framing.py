"""A frame: the bytes of one message, and how bytes of an unknown sender become tensors again.

    "CNSL" | version u16 | header length u32 | header, JSON | tensors, safetensors

Nothing in it is executed or trusted: magic and version, sizes before any allocation, JSON without
duplicate keys, NaN or depth, and safetensors' own index (names, types, shapes, offsets that tile the bytes exactly) are
checked here before the tensors are made.  Whatever is wrong is one `Refused` of one line, which quotes the sender
shortened and escaped.  Memory used is at most a small multiple of the message's own size.

Source: safetensors format, https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.plain import Json

__all__ = ["VERSION", "Bounds", "Frame", "canonical", "heading", "pack", "parse_object", "quoted", "unpack"]

VERSION = 1
"""The version of frame and messages; a reader takes its own version only."""

_MAGIC = b"CNSL"
_HEAD = struct.Struct("<4sHI")
_INDEX = struct.Struct("<Q")
_TYPES: dict[str, tuple[torch.dtype, int]] = {
    "F64": (torch.float64, 8),
    "F32": (torch.float32, 4),
    "F16": (torch.float16, 2),
    "BF16": (torch.bfloat16, 2),
    "I64": (torch.int64, 8),
    "I32": (torch.int32, 4),
    "I16": (torch.int16, 2),
    "I8": (torch.int8, 1),
    "U8": (torch.uint8, 1),
    "BOOL": (torch.bool, 1),
}
_MOST_AXES = 8


@dataclass(frozen=True)
class Bounds:
    """How much of a message is read: bytes of it all, bytes of each JSON part, tensors, and their element types."""

    bytes: int = 1 << 30
    header: int = 1 << 18
    tensors: int = 64
    dtypes: frozenset[torch.dtype] = field(default_factory=lambda: frozenset(dtype for dtype, _ in _TYPES.values()))


@dataclass(frozen=True, eq=False)
class Frame:
    """A message before it is understood: its header, and its tensors by name."""

    header: Mapping[str, Json]
    tensors: Mapping[str, Tensor]


def pack(frame: Frame) -> bytes:
    """The bytes of ``frame``; the same frame gives the same bytes.  Tensors are copied to the CPU."""
    header = canonical(frame.header)
    tensors = {name: frame.tensors[name].detach().cpu().contiguous().clone() for name in sorted(frame.tensors)}
    return b"".join((_HEAD.pack(_MAGIC, VERSION, len(header)), header, save(tensors) if tensors else b""))


def unpack(data: bytes, bounds: Bounds) -> Frame:
    """The frame of ``data``; refused where it is malformed or beyond ``bounds``."""
    header, at = heading(data, bounds)
    body = memoryview(data)[at:]
    if not len(body):
        return Frame(header, {})
    _check_index(body, bounds)
    try:
        return Frame(header, load(bytes(body)))
    except (SafetensorError, RuntimeError, ValueError, TypeError, OverflowError):
        return _refuse("its tensors cannot be read as safetensors")


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces, ASCII: equal values give equal bytes.  NaN and infinity are refused.

    Raises Refused: ``value`` is not plain JSON.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(f"a message cannot carry this: {error}", remedy="use plain JSON values") from None


def parse_object(data: bytes, what: str) -> dict[str, Json]:
    """A JSON object from untrusted bytes: no duplicate key, no NaN, no infinity, no bottomless nesting."""
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_not_a_number, parse_float=_finite
        )
    except Refused:
        raise
    except (UnicodeDecodeError, ValueError, RecursionError):
        return _refuse(f"its {what} is not JSON")
    return value if isinstance(value, dict) else _refuse(f"its {what} is not a JSON object")


def quoted(value: object) -> str:
    """Untrusted text, fit for one line of a log: escaped, ASCII, at most 60 characters."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def heading(data: bytes, bounds: Bounds) -> tuple[dict[str, Json], int]:
    """The header of ``data`` and where its tensors begin; those are not looked at.

    Raises Refused: the message is malformed or of another version.
    """
    if len(data) > bounds.bytes:
        _refuse(f"{len(data)} bytes are more than the {bounds.bytes} that are read")
    if len(data) < _HEAD.size:
        _refuse(f"truncated: {len(data)} bytes")
    magic, version, length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        _refuse("not a message of Consilium")
    if version != VERSION:
        raise Refused(
            f"message of version {version}, and this is version {VERSION}", remedy="run the same release at every end"
        )
    if length > bounds.header:
        _refuse(f"a header of {length} bytes is more than the {bounds.header} that are read")
    end = _HEAD.size + length
    if len(data) < end:
        _refuse(f"truncated: {len(data)} bytes, and the header ends at {end}")
    return parse_object(data[_HEAD.size : end], "header"), end


def _check_index(body: memoryview, bounds: Bounds) -> None:
    """Refuse a tensor part whose index does not describe exactly the bytes that follow it."""
    if len(body) < _INDEX.size:
        _refuse("truncated in its tensors")
    (length,) = _INDEX.unpack_from(body)
    if length > bounds.header:
        _refuse(f"an index of {length} bytes is more than the {bounds.header} that are read")
    if len(body) < _INDEX.size + length:
        _refuse("truncated in its index of tensors")
    index = parse_object(bytes(body[_INDEX.size : _INDEX.size + length]), "index of tensors")
    if len(index) > bounds.tensors:
        _refuse(f"{len(index)} tensors are more than {bounds.tensors}")
    spans = sorted(_span(name, entry, bounds) for name, entry in index.items())
    at = 0
    for start, end in spans:
        if start != at:
            _refuse("its tensors overlap or leave gaps")
        at = end
    if at != len(body) - _INDEX.size - length:
        _refuse("its tensors do not end where the message ends")


def _span(name: str, entry: object, bounds: Bounds) -> tuple[int, int]:
    """Where a tensor's bytes begin and end, after checking that its type and shape fill them."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(f"tensor {quoted(name)} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _TYPES or _TYPES[dtype][0] not in bounds.dtypes:
        _refuse(f"tensor {quoted(name)} has the type {quoted(dtype)}, which is not read here")
    if not _whole(shape) or len(shape) > _MOST_AXES or any(n > bounds.bytes for n in shape):
        _refuse(f"tensor {quoted(name)} has no usable shape")
    if not _whole(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * _TYPES[dtype][1]:
        _refuse(f"tensor {quoted(name)} does not fill its bytes")
    return offsets[0], offsets[1]


def _whole(values: object) -> bool:
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        _refuse(f"{quoted(next(n for n in names if names.count(n) > 1))} is there twice")
    return table


def _not_a_number(word: str) -> NoReturn:
    _refuse(f"it holds {word}, which is not valid JSON")


def _finite(word: str) -> float:
    value = float(word)
    return value if math.isfinite(value) else _refuse("it holds a number beyond what a float64 can be")


def _refuse(reason: str) -> NoReturn:
    raise Refused(reason, remedy="send what this release sends")
