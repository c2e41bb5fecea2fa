"""Many sites on one page: a table with ten thousand columns is unreadable, so sites are counted by size.

Also who took part in a training's rounds, added up over the rounds: selected, merged, and why the others were not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from consilium.evidence.round import RoundEvidence
from consilium.evidence.study import DataEvidence

__all__ = ["MANY", "Band", "Presence", "bands", "pools", "presence"]

MANY = 100
"""More sites than this are counted, not listed."""
_ENDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000)
_MEANINGS = (
    ("asked", "worked on the round's model"),
    ("merged", "their updates are in the model"),
    ("slow", "did a share of their local steps, and were merged"),
    ("late", "worked, and missed the deadline"),
    ("dropped", "worked, and sent nothing"),
    ("refused", "sent an update that the server turned away"),
    ("absent", "were absent"),
)


@dataclass(frozen=True)
class Band:
    """The sites with ``low`` to ``high`` training records; ``labels`` is their mean number of labels."""

    low: int
    high: int
    sites: int
    records: int
    labels: float


@dataclass(frozen=True)
class Presence:
    """How many sites a round met in one way: mean, least and most over rounds, and the sum of all."""

    what: str
    mean: float
    least: int
    most: int
    total: int
    meaning: str


def bands(data: DataEvidence) -> tuple[Band, ...]:
    """Sites by number of training records; empty for sites few enough to be listed, or where labels are not counted."""
    if len(data.sites) <= MANY or not data.label_counts:
        return ()
    counts = np.array(data.label_counts)
    sizes, labels = counts.sum(axis=0), (counts > 0).sum(axis=0)
    low, bands = 0, []
    for high in (*(end for end in _ENDS if end < sizes.max()), int(sizes.max())):
        of = (sizes > low) & (sizes <= high)
        if of.any():
            band = (int(sizes[of].min()), int(sizes[of].max()), int(of.sum()), int(sizes[of].sum()))
            bands.append(Band(*band, float(labels[of].mean())))
        low = high
    return tuple(bands)


def pools(data: DataEvidence) -> Mapping[str, str]:
    """Each pool's size: one number a site, or of many sites their sum and range."""
    return {name.replace("_", " "): _pool_size(sizes) for name, sizes in data.pools.items()}


def presence(rounds: Sequence[RoundEvidence], sites: int) -> tuple[Presence, ...]:
    """Who took part, added up; empty where every site took part in every round."""
    lines = []
    for what, meaning in _MEANINGS:
        counts = [_counts(r)[what] for r in rounds]
        if sum(counts) or what in ("asked", "merged"):
            mean = sum(counts) / max(1, len(counts))
            lines.append(Presence(what, mean, min(counts, default=0), max(counts, default=0), sum(counts), meaning))
    plain = all(len(r.cohort) == sites and not r.aborted for r in rounds) and len(lines) == 2
    return () if plain or not rounds else tuple(lines)


def _counts(r: RoundEvidence) -> dict[str, int]:
    out = {*r.dropped, *r.late, *(one.site for one in r.refused)}
    merged = 0 if r.aborted else len(set(r.cohort) - out)
    apart = {name: len(sites) for name, sites in (("slow", r.slow), ("late", r.late), ("dropped", r.dropped))}
    return {"asked": len(r.cohort), "merged": merged, **apart, "refused": len(r.refused), "absent": r.absent_count}


def _pool_size(sizes: Any) -> str:
    if not isinstance(sizes, list | tuple):
        return str(sizes)
    if len(sizes) <= MANY:
        return ", ".join(map(str, sizes))
    return (
        f"{sum(sizes)} at {len(sizes)} sites, {min(sizes)} to {max(sizes)} each; {sum(n == 0 for n in sizes)} have none"
    )
