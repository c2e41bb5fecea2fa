"""Whose records they are, by name: patients who are numbered at each site, and names that differ in spelling only.

    7 at north, 7 at south    one person at two hospitals, or two people of whom the claim counts one
    P7 and p7                 two people, or one whom the claim counts twice
    North and north           one hospital in two parts
    "unknown" in 100 of 300   one person of many records, or all those whose name is not known
    M\\ufffdller              Müller or Möller: a letter that could not be read, so that two names may have become one

Files do not tell which, so a few are counted in a note; an implausible list of patients, and a site in parts, is
refused.  Notes are published with the figures: they identify a patient by the number of a record, never by an id.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.data.dataset import Dataset

from .gap_words import is_blank_mark, unknown_cautions
from .look_alikes import drawn, visible_difference

__all__ = ["check_names"]

_LOST = "\ufffd"
"""What programs write where bytes are no letter of the encoding that they read."""
_FEW = 3
"""So many patients of one site may be at other sites too, whatever the share."""
_SHARE, _TIMES = 0.1, 10
"""A patient with more of a site's records than this share, and so many times the site's median, is noted."""


def check_names(dataset: Dataset, *, shared_patients: bool) -> tuple[str, ...]:
    """Notes on patients at two sites, on one who has far more records than others, and on names that are nearly alike.

    Refused: a site at least half of whose patients (and more than a few) are at others too, unless ``shared_patients``
    declares that ids are one list over all sites; and two sites whose names look alike.
    """
    _refuse_parts(dataset.key_names)
    classes = () if dataset.inputs.classes_declared else dataset.classes
    _refuse_marks("class", classes)
    _refuse_marks("site", dataset.key_names)
    _refuse_lost("site", dataset.key_names, dataset.keys)
    _refuse_lost("patient", dataset.unit_names, dataset.records.units)
    return (
        *_lost_letters(dataset),
        *unknown_cautions("class", classes),
        *unknown_cautions("site", dataset.key_names),
        *_shared(dataset, shared_patients),
        *_crowded(dataset),
        *_alike("patients", dataset.unit_names, dataset.records.units),
        *_alike("sites", dataset.key_names, dataset.keys),
    )


def _refuse_marks(kind: str, names: Sequence[str]) -> None:
    for name in names:
        if is_blank_mark(name, names):
            raise Refused(
                f"{name!r} is the name of a {kind}, and holds no letter or figure: does it mark records without one?",
                remedy="name it in missing if it does; else give it a name, or declare the classes",
                where=kind,
            )


def _refuse_lost(kind: str, names: Sequence[str], of: Tensor | None) -> None:
    """Refuse names in which a letter was lost: of two people or sites they may have made one."""
    lost = [place for place, name in enumerate(names) if _LOST in name]
    if lost and of is not None:
        raise Refused(
            f"the name of the {kind} of record {_first(of, lost[0])}, one of {len(lost)} such, holds U+FFFD in the "
            "place of a letter that could not be read: two names may have become one",
            remedy="export the data again, in the encoding in which they are stored",
            where=kind,
        )


def _lost_letters(dataset: Dataset) -> Iterator[str]:
    """A note on words in which a letter was lost: classes, and categories of a table."""
    words = {"a class": dataset.classes, **{f"column {c.name!r}": c.words for c in dataset.inputs.columns}}
    for where, names in words.items():
        if lost := sum(_LOST in name for name in names):
            yield (
                f"{lost} words of {where} hold U+FFFD in the place of a letter that could not be read: two words may "
                "have become one; export the data again, in the encoding in which they are stored"
            )


def _refuse_parts(sites: Sequence[str]) -> None:
    for one, other in _pairs(sites, _folded, drawn):
        raise Refused(
            f"sites {one!r} and {other!r} differ in capitals, blanks or Unicode only{visible_difference(one, other)}",
            remedy="write a site's name in one way",
            where="site",
        )


def _shared(dataset: Dataset, allowed: bool) -> Iterator[str]:
    if dataset.keys is None:
        return
    unit, key = torch.unique(torch.stack([dataset.records.units, dataset.keys]), dim=1)
    _, of, sites = torch.unique(unit, return_inverse=True, return_counts=True)
    elsewhere = sites[of] > 1
    if not bool(elsewhere.any()):
        return
    if not allowed:
        _refuse_numbered(dataset, unit, key, elsewhere)
    record = _first(dataset.records.units, int(unit[elsewhere][0]))
    yield (
        f"{int((sites > 1).sum())} of {len(sites)} patients, such as that of record {record}, have records at more "
        "than one site, and count as one person each"
        + ("" if allowed else "; if ids are given per site they are different people: put the site's name before them")
    )


def _refuse_numbered(dataset: Dataset, unit: Tensor, key: Tensor, elsewhere: Tensor) -> None:
    """``unit``, ``key``, ``elsewhere (p,)``: which patient was at which site, and whether at others too."""
    for site in torch.unique(key).tolist():
        here = key == site
        both = here & elsewhere
        count, patients = int(both.sum()), int(here.sum())
        if count > _FEW and 2 * count >= patients:
            example, name = int(unit[both][0]), dataset.key_name(site)
            other = dataset.key_name(int(key[(unit == example) & ~here][0]))
            patient = dataset.unit_name(example)
            raise Refused(
                f"{count} of the {patients} patients of site {name!r} are at other sites too, such as {patient!r} at "
                f"{other!r}: ids that each site assigns by itself merge several patients into one",
                remedy=f"put the site's name before them ({name}-{patient}); or, if an id means the same patient "
                "everywhere, set shared-patients = true",
                where="shared-patients",
            )


def _crowded(dataset: Dataset) -> Iterator[str]:
    """A patient who has more than a tenth of a site's records, and more than ten times the site's median patient."""
    units, keys = dataset.records.units, dataset.keys
    for site in [None] if keys is None else torch.unique(keys).tolist():
        here = units if keys is None or site is None else units[keys == site]
        patients, counts = torch.unique(here, return_counts=True)
        most, median = int(counts.max()), int(counts.median())
        if most > _SHARE * len(here) and most > _TIMES * median:
            record = _first(units, int(patients[counts.argmax()]))
            at = "" if site is None else f" of site {dataset.key_name(site)!r}"
            yield (
                f"one patient, that of record {record}, has {most} of the {len(here)} records{at}, and the median "
                f"patient {median}: is it a word for a missing name? All these records count as one patient's"
            )


def _alike(what: str, names: Sequence[str], of: Tensor | None) -> Iterator[str]:
    """``of (n,)``: the position in ``names`` of each record's."""
    pairs = list(_pairs(names, _plain, lambda name: _plain(drawn(name))))
    if pairs and of is not None:
        one, other = (_first(of, names.index(name)) for name in pairs[0])
        count = f"{len(pairs)} pairs of {what} have" if len(pairs) > 1 else f"two {what} have"
        yield (
            f"{count} names that differ in capitals, blanks, leading zeros, a final .0 or look-alike letters only, "
            f"such as those of records {one} and {other}, and count as two: if they are one, write the name in one way"
        )


def _first(groups: Tensor, group: int) -> int:
    """The first record of a group, counted from 0."""
    return int((groups == group).nonzero()[0])


def _pairs(names: Sequence[str], *keys: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Each name with an earlier one that is the same by one of ``keys``; once."""
    first: list[dict[str, str]] = [{} for _ in keys]
    for name in names:
        others = [originals.setdefault(key(name), name) for originals, key in zip(first, keys, strict=True)]
        other = next((one for one in others if one != name), None)
        if other is not None:
            yield other, name


def _folded(name: str) -> str:
    """Without capitals, invisible characters, and more than one blank in a row."""
    shown = (c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", "".join(shown).casefold()).split())


def _plain(name: str) -> str:
    """Without leading zeros, or a point at the end of a whole number."""
    return re.sub(r"(?<![\d.,])0+(?=\d)", "", re.sub(r"(?<=\d)\.0+$", "", _folded(name)))
