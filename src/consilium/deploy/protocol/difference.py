"""The first difference between a site's schema and the study's, in one line for both ends.

What leaves the site is public information: the study's own words, and those that the site's data file declares.  Limits
and categories that were read from records stay, and so does the name of a column that the study does not know (a file
without a header has a person's values there); the site's log has them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn

from consilium.core.errors import Refused, Unlawful
from consilium.core.inputs import Column
from consilium.study.spec.toml_binding import shown

from .schema import Schema, stated_ranges, stated_words

__all__ = ["refuse_difference"]

_ALIKE = "prepare the data of every end in the same way"
_log = logging.getLogger("consilium.site")


def refuse_difference(mine: Schema, study: Schema, *, private: bool) -> None:
    """Refuse, naming the first, what differs; ``private``: a claim is made, so that nothing undeclared may be used.

    Raises Refused: the data differ.  Raises Unlawful: undeclared ranges or categories under a claim (law 9).
    """
    checks: tuple[Callable[[Schema, Schema], None], ...] = _columns, _preparation, _shape, _classes, _patients
    for check in checks:
        check(mine, study)
    undeclared = [column for column in mine.inputs.columns if not column.declared]
    if private and undeclared:
        name, words = undeclared[0].name, undeclared[0].words
        reason = f"the categories of column {shown(name)} are not declared, and the study claims differential privacy"
        raise Unlawful(reason, law=9, remedy=stated_words(name, words), where="data")


def _columns(mine: Schema, study: Schema) -> None:
    columns, wanted = mine.inputs.columns, study.inputs.columns
    if bool(columns) != bool(wanted):
        have, lack = ("named columns", "none") if columns else ("no named columns", "some")
        remedy = "give a table, or an npz with an array columns" if wanted else _ALIKE
        _refuse(f"the data have {have}, the study's have {lack}", remedy)
    for number, (one, other) in enumerate(zip(columns, wanted, strict=False), 1):
        if one.name != other.name:
            remedy = "bring the columns into the study's order, and drop those that it has not"
            what = _name(one, study)
            _refuse(f"column {number} is {what}, the study's is {shown(other.name)}", remedy)
        _column(f"column {number} {shown(one.name)}", one, other)
    if len(columns) < len(wanted):
        missing = shown(wanted[len(columns)].name)
        _refuse(f"there are {len(columns)} columns, the study's column {len(columns) + 1} is {missing}", "add it")
    if len(columns) > len(wanted):
        more = _name(columns[len(wanted)], study)
        _refuse(f"column {len(wanted) + 1} is {more}, the study's are {len(wanted)}", "drop it")


def _column(where: str, one: Column, other: Column) -> None:
    """Refuse what differs in two columns of one name."""
    if bool(one.words) != bool(other.words):
        kinds = ("categories", "numbers") if one.words else ("numbers", "categories")
        remedy = stated_words(other.name, other.words) if other.words else "repair the values that are no numbers"
        _refuse(f"{where} holds {kinds[0]}, the study's {kinds[1]}", remedy)
    if not one.words and not one.declared:
        _refuse(f"the range of {where} is not declared", stated_ranges(other))
    if one.range != other.range:
        _refuse(f"{where} runs {_limits(one)}, the study's {_limits(other)}", stated_ranges(other))
    if one.unit != other.unit:
        units = [shown(column.unit) if column.unit else "no unit" for column in (one, other)]
        _refuse(f"{where} is in {units[0]}, the study's in {units[1]}", "convert it, and declare the study's unit")
    if one.words != other.words:
        _words(f"category {{}} of {where}", one.words, one.declared, other.words, stated_words(other.name, other.words))


def _preparation(mine: Schema, study: Schema) -> None:
    steps_here, wanted = dict(mine.inputs.preparation), dict(study.inputs.preparation)
    for step in sorted({*steps_here, *wanted}):
        if steps_here.get(step) != wanted.get(step):
            texts = [shown(steps[step]) if step in steps else "not stated" for steps in (steps_here, wanted)]
            _refuse(f"{_step(step)}: {texts[0]}, the study's: {texts[1]}", _ALIKE)


def _shape(mine: Schema, study: Schema) -> None:
    if mine.inputs.tokens != study.inputs.tokens:
        kinds = [f"ids of {one} tokens" if one else "numbers" for one in (mine.inputs.tokens, study.inputs.tokens)]
        _refuse(f"inputs are {kinds[0]}, the study's are {kinds[1]}", "use the study's list of words")
    if mine.shape != study.shape:
        _refuse(f"inputs have the shape {shown(mine.shape)}, the study's {shown(study.shape)}", _ALIKE)


def _classes(mine: Schema, study: Schema) -> None:
    if mine.classes != study.classes:
        remedy = f"declare the study's classes, in its order: {shown(list(study.classes))}"
        _words("class {}", mine.classes, mine.inputs.classes_declared, study.classes, remedy)


def _patients(mine: Schema, study: Schema) -> None:
    if study.inputs.patients and not mine.inputs.patients:
        reason = "the study's records are of patients, and this site's data name no patient for each record"
        _refuse(reason, "declare the patient of each record; a record without others is a patient of its own")


def _words(what: str, present: tuple[str, ...], declared: bool, wanted: tuple[str, ...], remedy: str) -> NoReturn:
    """Refuse at the first word that differs; the site's own word is sent only where it is declared."""
    pairs = zip(present, wanted, strict=False)
    at = next((k for k, (one, other) in enumerate(pairs) if one != other), min(len(present), len(wanted)))
    place, theirs = what.format(at + 1), shown(wanted[at]) if at < len(wanted) else "not there"
    if not declared:
        _log.warning("read from the records: %s", shown(list(present)))
        _refuse(f"{place} is not the study's ({theirs}), and the list is not declared", remedy)
    _refuse(f"{place} is {shown(present[at]) if at < len(present) else 'not there'}, the study's {theirs}", remedy)


def _name(column: Column, study: Schema) -> str:
    """The name of a site's column, where it may leave: the study has it, or the data file declares it."""
    public = column.declared or column.name in {other.name for other in study.inputs.columns}
    if not public:
        _log.warning("a column that the study has not: %s", shown(column.name))
    return shown(column.name) if public else "one that the study has not"


def _limits(column: Column) -> str:
    if column.range is None:
        return "between limits that are not stated"
    return "from {} to {}".format(*(repr(float(end)).removesuffix(".0") for end in column.range))


def _step(step: str) -> str:
    return step if step.isidentifier() and step.isascii() else shown(step)


def _refuse(reason: str, remedy: str) -> NoReturn:
    raise Refused(reason, remedy=remedy, where="data")
