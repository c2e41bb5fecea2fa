"""The roles that a table's knobs give its columns: each has one, and a knob without effect is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from consilium.core.errors import Refused

__all__ = ["check_roles"]


def check_roles(
    roles: Mapping[str, str | None], drop: Sequence[str], ranges: Sequence[str], categories: Sequence[str]
) -> None:
    """Refuse a column named twice, or for two things that exclude each other.

    ``roles`` are the columns of the label, the site and the patient, ``drop``, ``ranges`` and ``categories`` those
    that these knobs name.

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
    _check_free("categories", categories, {name: why for name, why in reasons.items() if name != roles["label"]})


def _check_free(knob: str, names: Sequence[str], reasons: Mapping[str, str]) -> None:
    for name in names:
        if name in reasons:
            raise Refused(f"column {name!r} {reasons[name]}", remedy=f"take it out of {knob}, or there", where=knob)
