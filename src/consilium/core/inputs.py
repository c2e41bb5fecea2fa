"""What the numbers of an input mean: the columns they come from, and how values became numbers in [0, 1].

Two tensors of one shape can hold different things: columns in another order, a range of another hospital, pictures that
were resampled otherwise.  Sites that train one model must agree on all of it (LAWS 24), so every source states it here.
What was read from the records and not declared is marked: a range of that kind is not kept at all, since it is private.

Inputs are numbers in [0, 1], or tokens: ids of words, int64 ``(n, length)``, of which 0 is padding and 1 a word that
the vocabulary does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .entry import Entry
from .errors import Refused
from .plain import Json

__all__ = ["MOST_TOKENS", "PADDING", "UNKNOWN", "Column", "Inputs", "blank_input", "random_inputs", "refuse_tokens"]

PADDING, UNKNOWN = 0, 1
"""The ids of no word, and of a word that the vocabulary does not have; words are numbered from 2."""
MOST_TOKENS = 1 << 24
"""Ids below this are exact in float32, in which a site's record tokens are made."""


@dataclass(frozen=True)
class Column:
    """One column: a number within ``range``, or one feature for each of ``words`` in that order.

    ``range`` is what became 0 and 1; None where it was not declared, or where the values were scaled before they were
    stored.  ``unit`` is the declared unit of measurement.  ``declared`` is False where range or words were read from
    the records.
    """

    name: str
    range: tuple[float, float] | None = None
    words: tuple[str, ...] = ()
    unit: str = ""
    declared: bool = True

    def to_json(self) -> dict[str, Json]:
        """Plain JSON without what is empty; ranges are floats, and -0.0 is 0.0."""
        filled: dict[str, Json] = {"name": self.name}
        if self.range is not None:
            filled["range"] = [float(end) + 0.0 for end in self.range]
        if self.words:
            filled["words"] = list(self.words)
        return {**filled, "unit": self.unit} if self.unit else filled


@dataclass(frozen=True)
class Inputs:
    """Columns in order (none where the inputs are pictures), and each step of preparation with what it did.

    ``patients`` is True where the source names the patient of each record.  ``classes_declared`` is False where the
    list of classes was read from the labels.  ``tokens`` is the size of the vocabulary where inputs are ids of words,
    padding and unknown included; 0 where they are numbers in [0, 1].
    """

    columns: tuple[Column, ...] = ()
    preparation: tuple[tuple[str, str], ...] = ()
    patients: bool = False
    classes_declared: bool = True
    tokens: int = 0

    def to_json(self) -> dict[str, Json]:
        """Plain JSON of what must be the same everywhere; ``tokens`` only where there are any."""
        stated: dict[str, Json] = {
            "columns": [column.to_json() for column in self.columns],
            "preparation": dict(self.preparation),
            "patients": self.patients,
        }
        return {**stated, "tokens": self.tokens} if self.tokens else stated


def blank_input(shape: Sequence[int], tokens: int = 0) -> Tensor:
    """One input of zeros ``(1, *shape)``, of the type that inputs have: padding alone, where they are ids."""
    return torch.zeros(1, *shape, dtype=torch.int64 if tokens else torch.float32)


def random_inputs(
    count: int,
    shape: Sequence[int],
    tokens: int = 0,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """``count`` random inputs ``(count, *shape)``: float32 in [0, 1], or int64 ids below ``tokens`` where it is not 0.

    Ids are of words and of the unknown word; up to half of a record's places are padding at its end.
    """
    if not tokens:
        return torch.rand(count, *shape, generator=generator, device=device)
    ids = torch.randint(UNKNOWN, tokens, (count, *shape), generator=generator, device=device)
    length = shape[-1]
    words = torch.randint((length + 1) // 2, length + 1, (count, 1), generator=generator, device=device)
    return ids.where(torch.arange(length, device=device) < words, PADDING)


def refuse_tokens(inputs: Inputs, entry: Entry, reason: str) -> None:
    """Refuse ``inputs`` that are tokens; ``reason`` says why ``entry`` needs numbers in [0, 1].

    Raises Refused: the inputs are tokens.
    """
    if inputs.tokens:
        raise Refused(
            f"{entry.kind()} has no meaning for records of words (tokens): {reason}",
            remedy="leave it out, or use data whose inputs are numbers in [0, 1]",
        )
