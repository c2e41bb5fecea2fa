"""From plain JSON to evidence: tolerant for reports, strict for a run that resumes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from consilium.evidence.cell import CellEvidence
from consilium.evidence.round import RoundEvidence
from consilium.evidence.study import StudyEvidence

__all__ = ["SCHEMA", "read_cell", "read_round", "read_study_record"]

SCHEMA = 2
"""The number of the schema that is written, and the highest that is read: 2 adds to 1, and takes nothing away."""

T = TypeVar("T")


def read_cell(record: Mapping[str, object], *, strict: bool = False) -> CellEvidence:
    """The evidence of a cell.  Raises ValueError in a strict reading, naming the first field of another kind."""
    return _read(_cells(), record, strict)


def read_study_record(record: Mapping[str, object]) -> StudyEvidence:
    """The record of a study, whatever is in it."""
    return _read(_studies(), record, False)


def read_round(record: Mapping[str, object]) -> RoundEvidence:
    """A line of a training's log, whatever is in it."""
    return _read(_rounds(), record, False)


def _read(adapter: TypeAdapter[T], record: Mapping[str, object], strict: bool) -> T:
    try:
        return adapter.validate_python(dict(record), context={"strict": strict})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None


@cache
def _cells() -> TypeAdapter[CellEvidence]:
    return TypeAdapter(CellEvidence)


@cache
def _studies() -> TypeAdapter[StudyEvidence]:
    return TypeAdapter(StudyEvidence)


@cache
def _rounds() -> TypeAdapter[RoundEvidence]:
    return TypeAdapter(RoundEvidence)
