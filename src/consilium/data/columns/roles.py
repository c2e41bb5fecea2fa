"""The roles that a table's knobs give its columns: each has one, and a knob without effect is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from consilium.core.errors import Refused

__all__ = ["check_attributes", "check_roles"]


def check_roles(
    roles: Mapping[str, str | None], drop: Sequence[str], ranges: Sequence[str], categories: Sequence[str]
) -> None:
    """Refuse a column named twice, or for two things that exclude each other.

    ``roles`` are the columns of what is asked, of the site and the patient, ``drop``, ``ranges`` and ``categories``
    those that these knobs name.

    Raises Refused: a column with two roles, or named twice.
    """
    named = {knob: name for knob, name in roles.items() if name is not None}
    for knob, other in itertools.combinations(named, 2):
        if named[knob] == named[other]:
            raise Refused(f"it names {named[other]!r}, as {knob} does", remedy="name another column", where=other)
    for knob, names in (("ranges", ranges), ("categories", categories), ("drop", drop)):
        twice = [name for name in names if list(names).count(name) > 1]
        if twice:
            raise Refused(f"column {twice[0]!r} is named twice", remedy="name it once", where=knob)
    reasons = {name: f"is the {knob}" for knob, name in named.items()}
    _check_free("drop", drop, reasons)
    reasons |= dict.fromkeys(drop, "is dropped")
    _check_free("ranges", ranges, reasons | dict.fromkeys(categories, "has categories"))
    answers = {name for knob, name in roles.items() if knob not in ("site", "patient")}
    _check_free("categories", categories, {name: why for name, why in reasons.items() if name not in answers})


def check_attributes(
    roles: Mapping[str, str | None],
    attributes: Sequence[str],
    inputs: Sequence[str],
    others: Mapping[str, Sequence[str]],
) -> None:
    """Refuse an attribute that has another role, and a column of ``inputs`` that is none.

    ``others`` are the columns that other knobs name; ``inputs`` are the attributes that are inputs too.

    Raises Refused: a column with two roles, or named twice.
    """
    for knob, names in (("attributes", attributes), ("also-inputs", inputs)):
        twice = [name for name in names if list(names).count(name) > 1]
        if twice:
            raise Refused(f"column {twice[0]!r} is named twice", remedy="name it once", where=knob)
    reasons = {name: f"is the {knob}" for knob, name in roles.items() if name is not None}
    reasons |= dict.fromkeys(others.get("drop", ()), "is dropped")
    _check_free("attributes", attributes, reasons)
    for name in inputs:
        if name not in attributes:
            reason = f"column {name!r} is no attribute, so it is an input already"
            raise Refused(reason, remedy="take it out, or name it in attributes too", where="also-inputs")
    alone = {name: "is an attribute and no input" for name in attributes if name not in inputs}
    _check_free("ranges", others.get("ranges", ()), alone)


def _check_free(knob: str, names: Sequence[str], reasons: Mapping[str, str]) -> None:
    for name in names:
        if name in reasons:
            raise Refused(f"column {name!r} {reasons[name]}", remedy=f"take it out of {knob}, or there", where=knob)
