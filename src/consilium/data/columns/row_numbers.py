"""Columns that number rows or identify people: a feature that reveals which record it is reveals its label.

    Unnamed: 0, __index_level_0__      pandas' own names for an index that was stored as a column
    id, patient_id, mrn, row           whole numbers, each once, under a name that suggests it
    patient_id, mrn, subject, surname  text or numbers, once or often: whose several records are in training and in test
    20240131, 20240201                 dates, of which a day's difference is 1 or 70: noted

The others are refused.  Whole numbers that are all different and run with the file's order are noted, whatever their
name: they may be a measurement by which the file was sorted.  Of arrays, which are scaled already, features that rise
by the same step from record to record are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.inputs import Column

__all__ = ["check_index_name", "check_person_name", "row_number_features", "row_number_note"]

_INDEX = re.compile(r"(?i:unnamed: ?\d+(?:[._].*)?)|__index_level_\d+__|level_\d+")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|#")
_ID = re.compile(r"ids?|idx|[pu]id|u?uid|guid|mrn|row(?:id|num|names?)|recno|serial")
_COUNTED = re.compile(
    r"row|record|case|patient|subject|person|participant|sample|study|serial|admission|encounter|visit|scan|image|exam|file"
    r"|index"
)
_NUMBER = re.compile(r"no|nr|num|number|index|key|code|name|#")
_PERSON = r"(?:pat|patients?|subjects?|persons?|participants?)"
_COUNT = r"(?:no|nr|num|number|#)"
_OF_PEOPLE = re.compile(
    rf"(?:{_PERSON}_?|case_?|(?:record|sample|study|encounter|visit|admission)_)?(?:ids?|u?uid|guid)|pid|mrn|ssn|pseudonym"
    rf"|patient|subject|person|participant|{_PERSON}_?(?:[a-z]+_)?(?:{_COUNT}|key|code|name)|case_?{_COUNT}"
    rf"|(?:(?:first|last|full|family|given|maiden)_?)?name|surname|forename"
    rf"|(?:medical_record|social_security|health_insurance|insurance|nhs|hospital)_{_COUNT}"
)
"""Words of a name, in small letters and with a low line between them."""
_FEW = 8
"""Of fewer rows, numbers in order may be chance."""


def check_index_name(name: str) -> None:
    """Refuse a feature column that pandas called so because it had no name.

    Raises Refused: the name of an index of pandas.
    """
    if _INDEX.fullmatch(name):
        raise Refused(
            f"column {name!r} is an index that was stored with the table, and no feature",
            remedy=f'drop it (drop = ["{name}"]), export with index=False, or give it a name',
            where="drop",
        )


def check_person_name(name: str, *, patients: bool) -> None:
    """Refuse a feature column whose name says that it tells whose a record is; ``patients``: another column does.

    Raises Refused: the column ``name`` is named after people.
    """
    if _names_people(name):
        raise Refused(
            f"column {name!r} tells by its name whose each record is, and is no feature: a model knows by it the label "
            "of everybody with other records in training",
            remedy=("" if patients else f'patient = "{name}" keeps each person\'s records together; else ')
            + f'drop = ["{name}"], or rename it if it is measured',
            where="drop" if patients else "patient",
        )


def row_number_note(values: npt.NDArray[Any], name: str) -> str:
    """The complaint about feature ``name`` with numbers ``(n,)``, in the file's order: they number rows, or are dates.

    Empty if they are neither.

    Refused: whole numbers that are all different under the name of an id.

    Raises Refused: different whole numbers under the name of an id.
    """
    if len(values) < _FEW or not bool((np.floor(values) == values).all()):
        return ""
    if _are_dates(values):
        return (
            f"column {name!r} holds whole numbers that can all be read as dates (such as 20240131): as numbers the "
            "days around the end of a month lie as far apart as months; turn them into a number such as an age"
        )
    if len(np.unique(values)) < len(values):
        return ""
    if _names_ids(name):
        raise Refused(
            f"column {name!r} has a different whole number in each of the {len(values)} rows: it names records, "
            "and is no feature",
            remedy=f'drop it (drop = ["{name}"]); name it as patient if it is; or rename it if it is measured',
            where="drop",
        )
    if not _runs_in_order(values):
        return ""
    return (
        f"column {name!r} holds whole numbers that are all different and run with the file's order, as row numbers do: "
        f'if it is one, drop = ["{name}"]'
    )


def row_number_features(x: Tensor, split: Tensor | None, columns: Sequence[Column]) -> tuple[str, ...]:
    """The complaints about features of ``x (n, d)`` that number the records, in each part of a split."""
    if x.dim() != 2:
        return ()
    parts = [x] if split is None else [x[split == part] for part in torch.unique(split).tolist()]
    even = [_evenly_spaced(part.double()) for part in parts if len(part) >= _FEW]
    places = torch.stack(even).all(0).nonzero().flatten().tolist() if even else []
    names = [repr(columns[place].name) if columns else str(place) for place in places]
    return tuple(
        f"feature {name} rises by the same step from record to record, as row numbers do: if it is one, leave it out"
        for name in names
    )


def _evenly_spaced(x: Tensor) -> Tensor:
    """Which features of ``x (n, d)`` step evenly, up to what float32 keeps: bool ``(d,)``."""
    steps = x.diff(dim=0)
    mean = steps.mean(0)
    return (mean != 0) & ((steps - mean).abs() <= 1e-2 * mean.abs() + 1e-7).all(0)


def _names_ids(name: str) -> bool:
    """patient_id, PatientID, id, row, case no: but not platelet_no, which counts."""
    *before, last = [word.casefold() for word in _WORDS.findall(name)] or [""]
    of_people = _COUNTED.fullmatch(before[0] if before else last)
    numbers = len(before) == 1 and _NUMBER.fullmatch(last)
    return bool(_ID.fullmatch(last) or (of_people and (numbers or not before)))


def _names_people(name: str) -> bool:
    """patient_id, MRN, subject, case no, last name: but not device_id, visit no, drug_name, persons_in_household."""
    return bool(_OF_PEOPLE.fullmatch("_".join(word.casefold() for word in _WORDS.findall(name))))


def _are_dates(values: npt.NDArray[Any]) -> bool:
    """Whether whole numbers ``(n,)``, several different ones, are all yyyymmdd or all yyyymm of 1900 to 2099."""
    months, days = values % 100, np.ones_like(values)
    years = values // 100
    if values.min() > 10**7:
        months, days, years = values // 100 % 100, values % 100, values // 10_000
    fits = (years >= 1900) & (years < 2100) & (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)
    return bool(fits.all()) and len(np.unique(values)) >= _FEW


def _runs_in_order(values: npt.NDArray[Any]) -> bool:
    """Whether ``values (n,)`` rise from each row to the next, or fall."""
    steps = values[1:] > values[:-1]
    return len(values) >= _FEW and bool(steps.all() or (values[1:] < values[:-1]).all())
