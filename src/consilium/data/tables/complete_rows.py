"""Which rows of a table are used: those without a gap where there may be none, and never without a site or a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from consilium.core.errors import Refused
from consilium.core.records import Omission
from consilium.data.checks.omissions import by_site, check_none_lost, first

__all__ = ["complete_rows", "gaps_by_site"]


def complete_rows(
    gaps: Any,
    columns: Sequence[str],
    groups: Mapping[str, Sequence[str | None]],
    *,
    drop_missing: bool,
    remedy: Callable[[Sequence[str]], str],
) -> tuple[Any, tuple[Omission, ...]]:
    """Which rows have no gap in ``columns``, as a series of bool, and those that are left out, by natural site.

    ``gaps`` is a frame of bool.  ``groups`` are the site and the class of each row (None: not known); none may be lost
    whole.  ``remedy`` says how the gaps of some columns are filled.

    Raises Refused: gaps that the study does not allow, no row left, or a site or a class lost.
    """
    counts = gaps[list(columns)].sum()
    open_columns = [str(name) for name in counts[counts > 0].index]
    named = [f"{name!r} ({counts[name]})" for name in open_columns]
    if named and not drop_missing:
        raise Refused(
            f"values are missing in {', '.join(named)}",
            remedy="set drop-missing = true to leave those rows out, drop the columns, or fill them in"
            + remedy(open_columns),
            where="drop-missing",
        )
    whole = ~gaps[list(columns)].any(axis=1)
    if not whole.any():
        raise Refused("no complete row is left", remedy="drop the columns with gaps", where="drop-missing")
    what, mended = "rows with a gap", f"fill the gaps in {', '.join(named)}, or drop those columns"
    for kind, names in groups.items():
        rest = [name for name, use in zip(names, whole, strict=True) if use and name is not None]
        check_none_lost(what, [name for name in names if name is not None], rest, mended, kind)
    sites = groups.get("site", [""] * len(whole))
    return whole, by_site(what, [site or "" for site, use in zip(sites, whole, strict=True) if not use], first(named))


def gaps_by_site(what: str, gaps: Any, sites: Sequence[str]) -> Iterator[Omission]:
    """How many of ``gaps`` there are at each of ``sites (n,)``, with their columns as examples."""
    counts = gaps.groupby(np.array(sites)).sum()
    for site, row in counts.iterrows():
        columns = [f"{name!r} ({count})" for name, count in row.items() if count]
        if columns:
            yield Omission(what, int(row.sum()), str(site), tuple(columns))
