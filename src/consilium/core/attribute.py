"""A named property of each record that is no input: a sensitive group, a scanner, a quasi-identifier.

    codes (n,)   record i has words[codes[i]]; -1 where it is not known

A model never sees it.  Partitions by key and figures by group read it.  The words of an attribute that nobody declared
were read from the records: they stay with the records, in memory, and are in no message and no evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import Failed, Refused

__all__ = ["UNKNOWN", "Attribute", "attribute_named", "joined_attributes"]

UNKNOWN = -1
"""The code of a record whose value is not known, such as one that was made for an audit."""


@dataclass(frozen=True, eq=False)
class Attribute:
    """``codes`` int64 ``(n,)``; code k stands for ``words[k]``.  ``declared``: the words are public constants."""

    name: str
    codes: Tensor
    words: tuple[str, ...]
    declared: bool = False

    def select(self, index: Tensor) -> Attribute:
        """That of the records at ``index`` (positions or a boolean mask)."""
        return replace(self, codes=self.codes[index])

    def unknown(self, n: int) -> Attribute:
        """The same attribute of ``n`` records whose value is not known."""
        return replace(self, codes=torch.full((n,), UNKNOWN))


def joined_attributes(parts: Sequence[Sequence[Attribute]], sizes: Sequence[int]) -> tuple[Attribute, ...]:
    """The attributes of records that are put one after the other; ``sizes`` are their numbers.

    A part without attributes, such as canaries, has values that are not known.

    Raises Failed: two parts disagree on the words of an attribute.
    """
    like = next((part for part in parts if part), ())
    whole = []
    for place, attribute in enumerate(like):
        pieces = [part[place] if part else attribute.unknown(n) for part, n in zip(parts, sizes, strict=True)]
        if any((one.name, one.words) != (attribute.name, attribute.words) for one in pieces):
            raise Failed(f"records are joined whose attribute {attribute.name!r} has other words")
        whole.append(replace(attribute, codes=torch.cat([one.codes for one in pieces])))
    return tuple(whole)


def attribute_named(name: str, attributes: Sequence[Attribute], where: str) -> Attribute:
    """The attribute called ``name``.

    Raises Refused: the records have none of that name.
    """
    for attribute in attributes:
        if attribute.name == name:
            return attribute
    names = ", ".join(repr(attribute.name) for attribute in attributes) or "none"
    raise Refused(
        f"the records have no attribute {name!r} (they have {names})",
        remedy=f'name it in the data table: attributes = ["{name}"]',
        where=where,
    )
