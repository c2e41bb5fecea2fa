"""Measures as they stand in evidence; the class itself is :class:`consilium.core.finding.Measure`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, TypeAdapter, ValidationInfo

from consilium.core.finding import Measure

from .fields import Count, Name, Number, refused

__all__ = ["Measures"]

_NUMBER: TypeAdapter[float | None] = TypeAdapter(Number)
_NAME: TypeAdapter[str | None] = TypeAdapter(Name)
_COUNT: TypeAdapter[int | None] = TypeAdapter(Count)


def _measures(value: object, info: ValidationInfo) -> tuple[Measure, ...]:
    """What has a name; a value that is none has a reason."""
    if not isinstance(value, list):
        refused(info, "a list of measures")
        return ()
    named = [one for one in value if isinstance(one, dict) and one.get("name")]
    if len(named) < len(value):
        refused(info, "a list of measures that have names")
    return tuple(_measure(one, info) for one in named)


def _measure(entry: Mapping[str, object], info: ValidationInfo) -> Measure:
    how = info.context
    value, low, high, chance = (
        _NUMBER.validate_python(entry.get(name), context=how) for name in ("value", "low", "high", "chance")
    )
    name, unit, reason = (_NAME.validate_python(entry.get(key), context=how) for key in ("name", "unit", "reason"))
    n, units = (_COUNT.validate_python(entry.get(key), context=how) for key in ("n", "unit_count"))
    why = reason or ("" if value is not None else "no value was written")
    return Measure(name or "", value, low, high, chance, n or 0, unit or "", why, units or 0)


Measures = Annotated[tuple[Measure, ...], BeforeValidator(_measures)]
