"""The invariant behind every claim, checked on the result and not on how it was made: no unit is in two pools.

Membership is judged by who was learned from, epsilon by who is in how many sites, accuracy by who was never seen; one
unit in two places makes all three false at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from consilium.core.errors import Failed
from consilium.core.records import Consortium, Records

__all__ = ["check_apart"]


def check_apart(consortium: Consortium) -> None:
    """Fail, naming the places, where a unit stands in two pools or a record stands twice.

    Raises Failed: a unit is in two pools, or a record twice in one.
    """
    named = list(_pools(consortium))
    units = torch.cat([records.units for _, records in named])
    ids = torch.cat([records.ids for _, records in named])
    pool = torch.cat([torch.full_like(records.units, k) for k, (_, records) in enumerate(named)])
    _, unit = torch.unique(units, return_inverse=True)
    pairs = torch.unique(unit * len(named) + pool)
    tangled = torch.bincount(pairs // len(named)) > 1
    if tangled.any():
        one = int(tangled.nonzero()[0])
        places = " and ".join(named[k][0] for k in torch.unique(pool[unit == one]).tolist())
        raise Failed(f"unit {int(units[unit == one][0])} stands in {places}", where=consortium.name)
    if len(torch.unique(ids)) < len(ids):
        raise Failed("a record stands twice in one pool", where=consortium.name)


def _pools(consortium: Consortium) -> Iterator[tuple[str, Records]]:
    yield "test", consortium.test
    yield "public", consortium.public
    for site in consortium.sites:
        yield f"{site.id} train", site.records.train
        yield f"{site.id} validation", site.records.validation
        yield f"{site.id} non-members", site.records.non_members
