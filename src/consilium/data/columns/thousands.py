"""Marks that part thousands in a column of numbers: 950, 1.200, 12.400 are not 950, 1.2 and 12.4.

A file does not state which is meant.  It is refused where every mark has exactly three digits behind it and one to
three in front, none of them a leading zero, and whole numbers of three digits or more stand beside: measurements with
three decimals write 950.000.  A declared range that excludes the numbers without marks shows that the marks
are decimal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from consilium.core.errors import Refused

__all__ = ["check_thousands"]

_WHOLE = re.compile(r"[+-]?[1-9]\d{2,}")
_GROUPED = {mark: re.compile(rf"[+-]?[1-9]\d{{0,2}}{re.escape(mark)}\d{{3}}") for mark in ".,"}


def check_thousands(
    texts: Sequence[str], rows: Sequence[int], name: str, declared: tuple[float, float] | None, decimal: str
) -> None:
    """Refuse numbers ``(n,)`` of column ``name`` whose decimal marks seem to part thousands; ``rows`` number them.

    Raises Refused: marks that seem to separate thousands.
    """
    marked = [i for i, text in enumerate(texts) if decimal in text]
    whole = next((text for text in texts if _WHOLE.fullmatch(text)), None)
    if not marked or whole is None or not all(_GROUPED[decimal].fullmatch(texts[i]) for i in marked):
        return
    joined = [float(texts[i].replace(decimal, "")) for i in marked]
    if declared is not None and not all(declared[0] <= value <= declared[1] for value in joined):
        return
    mark, text = ("point" if decimal == "." else "comma"), texts[marked[0]]
    raise Refused(
        f"column {name!r} holds {text} in row {rows[marked[0]]}, {whole} beside it, and three digits behind every "
        f"{mark}: it seems to part thousands, and would be read as {text.replace(decimal, '.')}",
        remedy=f"take the {mark}s out of this column ({text.replace(decimal, '')}); if they are decimal marks, write "
        f"whole numbers with three decimals too ({whole}{decimal}000), or declare the column's range",
        where=name,
    )
