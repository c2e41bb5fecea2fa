"""From evidence to plain JSON: every field by its name, in the order in which its class declares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass

__all__ = ["plain"]


def plain(record: object) -> dict[str, object]:
    """``record``, a dataclass, as JSON has it; a field that is marked absent is left out while it is its default."""
    return {f.name: _plain(getattr(record, f.name)) for f in fields(record) if not _is_absent(f, record)}  # type: ignore[arg-type]


def _is_absent(field: Field[object], record: object) -> bool:
    return bool(field.metadata.get("absent")) and getattr(record, field.name) == field.default


def _plain(value: object) -> object:
    if is_dataclass(value):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
