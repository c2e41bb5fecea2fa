"""What the numbers of an input mean: the columns they come from, and how values became numbers in [0, 1].

Two tensors of one shape can hold different things: columns in another order, a range of another hospital, pictures that
were resampled otherwise.  Sites that train one model must agree on all of it (LAWS 24), so every source states it here.
What was read from the records and not declared is marked: a range of that kind is not kept at all, since it is private.
"""

from __future__ import annotations

from dataclasses import dataclass

from .plain import Json

__all__ = ["Column", "Inputs"]


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
    list of classes was read from the labels.
    """

    columns: tuple[Column, ...] = ()
    preparation: tuple[tuple[str, str], ...] = ()
    patients: bool = False
    classes_declared: bool = True

    def to_json(self) -> dict[str, Json]:
        """Plain JSON of what must be the same everywhere."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "preparation": dict(self.preparation),
            "patients": self.patients,
        }
