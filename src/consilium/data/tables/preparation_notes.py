"""What is said of a table that was prepared: values that were clipped, and ranges read from private records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from consilium.core.records import Omission
from consilium.data.checks.omissions import by_site
from consilium.data.columns.encoding import Encoded

__all__ = ["clipped_values", "preparation_notes"]


def clipped_values(encoded: Mapping[str, Encoded], sites: Sequence[str]) -> Iterator[Omission]:
    """How many values of each column were clipped to its declared range, by site."""
    for name, column in encoded.items():
        if column.clipped is not None and column.clipped.any():
            outside = [sites[row] for row in np.flatnonzero(column.clipped).tolist()]
            yield from by_site(f"values of {name!r} clipped to its declared range", outside)


def preparation_notes(private: list[str], classes_private: bool) -> tuple[str, ...]:
    """How a table was prepared; ``private`` are the columns whose ranges or words are not declared."""
    notes = ["numbers outside their declared range are clipped, and counted"]
    if private:
        notes.append(
            "ranges or categories of "
            + ", ".join(private)
            + " were read from the records: they are not public and carry no privacy charge"
        )
    if classes_private:
        notes.append("the list of classes was read from the labels; declare it in categories")
    return tuple(notes)
