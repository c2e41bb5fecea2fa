"""What the sites of a study agree on before the first round: the meaning of an input, its shape, and the classes.

    server -> site    the study's schema, which the site compares with its own (`difference`)
    site -> server    SHA-256 of the site's own schema, which must be that of the study's

The study's own data must declare their ranges and categories: they are sent to the sites, so they are public constants
(LAWS 9), and what a server read from its own records is not.  Of a site's schema only the digest leaves.

Whose each record is (patients) must be alike at all sites; a public test set may name none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from consilium.core.errors import Refused
from consilium.core.inputs import MOST_TOKENS, Column, Inputs
from consilium.core.records import Consortium
from consilium.study.spec.toml_binding import shown

from .framing import canonical

__all__ = ["Schema", "check_agreed", "check_declared", "check_named", "read_schema", "stated_ranges", "stated_words"]

_MOST_BYTES = 400_000
"""Of the columns of a study in its request, which names them a second time in the table of its data."""
_MOST_STATED = 300
_RANGES, _WORDS = "ranges = [[column, low, high]]", "categories = [[column, word, word, ...]]"
_WHERE = "data"


@dataclass(frozen=True)
class Schema:
    """The meaning of inputs, the shape of one, and the classes in order."""

    inputs: Inputs
    shape: tuple[int, ...]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, data: Consortium) -> Schema:
        """That of ``data``."""
        return cls(data.inputs, tuple(data.shape), tuple(data.classes))

    def digest(self) -> str:
        """SHA-256 of its canonical JSON, as hex; what was declared and what was read from records is no part of it."""
        table = {**self.inputs.to_json(), "shape": list(self.shape), "classes": list(self.classes)}
        return hashlib.sha256(canonical(table)).hexdigest()


def check_declared(data: Consortium) -> None:
    """Refuse the study's own data where the meaning of the inputs cannot be sent to the sites.

    Raises Refused: too long a schema, or ranges and categories that are not declared.
    """
    inputs = data.inputs
    for column in inputs.columns:
        if not column.declared:
            what, knob = ("categories", _WORDS) if column.words else ("limits", _RANGES)
            reason = (
                f"the {what} of column {shown(column.name)} were read from the records, but every site receives them"
            )
            raise Refused(reason, remedy=f"declare {knob} in the study", where=_WHERE)
    check_named(data)
    if len(canonical(inputs.to_json())) > _MOST_BYTES:
        reason = f"{len(inputs.columns)} columns are described by more than {_MOST_BYTES} bytes"
        raise Refused(reason, remedy="drop columns, or shorten their names and categories", where=_WHERE)


def check_named(data: Consortium) -> None:
    """Refuse features whose meaning is not described.

    Raises Refused: features without a description.
    """
    if len(data.shape) == 1 and not data.inputs.columns and not data.inputs.tokens:
        reason = "the features have no names, so sites cannot agree on their order"
        remedy = "add an array columns with a text for each feature to the npz, or give a table"
        raise Refused(reason, remedy=remedy, where=_WHERE)
    if data.fitted_on_private and all(column.declared for column in data.inputs.columns):
        reason = "ranges or categories were read from the records"
        raise Refused(reason, remedy="declare them as public constants", where=_WHERE)


def check_agreed(study: Schema, digests: Mapping[str, str]) -> None:
    """Refuse, by name, the first site whose digest is not that of the study, or whose units are not those of others.

    Raises Refused: a site with another schema or other units.
    """
    options = {True} if study.inputs.patients else {True, False}
    known = {replace(study, inputs=replace(study.inputs, patients=named)).digest(): named for named in options}
    for site, digest in digests.items():
        if digest not in known:
            reason = "it enrols with other inputs than the study's"
            raise Refused(reason, remedy="run one release everywhere", where=site)
    first = next(iter(digests), "")
    for site, digest in digests.items():
        if digest != digests[first]:
            one, other = (site, first) if known[digests[first]] else (first, site)
            reason = f"the records of {other} name their patients, and those of {one} do not"
            raise Refused(reason, remedy="declare the patients at every site, or at none", where=one)


def read_schema(plan: Mapping[str, Any]) -> Schema:
    """The study's schema out of a request; refused where it is anything else."""
    shape, classes, table = plan["shape"], plan["classes"], plan["inputs"]
    if not _texts(classes) or not isinstance(shape, list) or not all(type(n) is int and 0 < n < 1 << 31 for n in shape):
        _refuse("shape and classes")
    if not isinstance(table, dict) or set(table) - {"tokens"} != {"columns", "preparation", "patients"}:
        _refuse("inputs")
    tokens = table.get("tokens", 0)
    if type(tokens) is not int or not 0 <= tokens <= MOST_TOKENS:
        _refuse("tokens")
    columns, preparation, patients = table["columns"], table["preparation"], table["patients"]
    if not isinstance(columns, list) or not isinstance(preparation, dict) or type(patients) is not bool:
        _refuse("inputs")
    if not _texts(list(preparation.values())):
        _refuse("preparation")
    inputs = Inputs(tuple(map(_column, columns)), tuple(sorted(preparation.items())), patients, tokens=tokens)
    return Schema(inputs, tuple(shape), tuple(classes))


def stated_ranges(column: Column) -> str:
    """What to write in a data file so that it declares the range of ``column``."""
    if column.range is None:
        return "give a table with ranges, or arrays that one program wrote, at every end"
    ends = (int(end) if end.is_integer() else end for end in column.range)
    return _stated("ranges", [column.name, *ends, *filter(None, [column.unit])])


def stated_words(name: str, words: tuple[str, ...]) -> str:
    """The same for the categories of a column, or for the classes."""
    return _stated("categories", [name, *words])


def _stated(knob: str, values: list[object]) -> str:
    text = f"{knob} = [{json.dumps(values)}]"
    return f"declare {text}" if len(text) <= _MOST_STATED else f"declare {knob} as the study does"


def _column(raw: object) -> Column:
    if not isinstance(raw, dict) or not set(raw) <= {"name", "range", "words", "unit"}:
        _refuse("columns")
    ends, words, texts = raw.get("range"), raw.get("words", []), [raw.get("name"), raw.get("unit", "")]
    if not _texts(words) or not _texts(texts) or not (ends is None or _range(ends)):
        _refuse("columns")
    return Column(
        str(texts[0]), None if ends is None else (float(ends[0]), float(ends[1])), tuple(words), str(texts[1])
    )


def _range(ends: object) -> bool:
    if not isinstance(ends, list) or len(ends) != 2:
        return False
    return all(type(end) is float and math.isfinite(end) for end in ends)


def _texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _refuse(what: str) -> NoReturn:
    raise Refused(f"the request holds no usable {what}", remedy="run one release everywhere", where="request")
