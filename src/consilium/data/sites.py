"""The pools of LAWS 17, in the one order that keeps them apart.

    load -> verify -> drop duplicates -> test | public | what is left, partitioned over the sites
    per site: non-members | validation | train

Every step divides units and draws from its own stream: "test", "public", "partition", and ("pools", site).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Consortium, Pools, Records, Site

from .apart import check_apart
from .dataset import TEST, TRAIN, VALIDATION, Dataset
from .duplicates import deduplicate, untangle
from .partition import Partition
from .source import Source
from .splits import PUBLIC, Units, pick_records, roles
from .verify import verified

__all__ = ["gather", "label_counts"]


def gather(
    source: Source,
    partition: Partition,
    *,
    sites: int,
    public: float,
    validation: float,
    test: float,
    non_members: float,
    stream: Stream,
) -> Consortium:
    """Load ``source`` and divide it over ``sites`` sites.

    ``test`` is the share held out where the source gives no test split, ``public`` that of the training pool taken out
    for everyone; ``non_members`` and ``validation`` (where the source gives none) are shares of each site's own
    training pool.  Refused: what cannot be used, a test set of one class, a site without data, by its name.
    """
    _check_shares(sites, public, validation, test, non_members)
    dataset, duplicates = deduplicate(verified(source.load()))
    dataset, tangled = untangle(dataset)
    role = roles(dataset, test=test, public=public, stream=stream)
    held = dataset.records.select(role == TEST)
    _check_classes(dataset, held, dataset.records.select(role == TRAIN))
    at, names = _assign(dataset, role, partition, sites, stream.child("partition"))
    pools = stream.child("pools")
    own_validation = 0.0 if (role == VALIDATION).any() else validation
    consortium = Consortium(
        name=dataset.name,
        sites=tuple(
            _site(name, dataset.records.select(at == k), role[at == k], own_validation, non_members, pools.child(k))
            for k, name in enumerate(names)
        ),
        test=held,
        public=dataset.records.select(role == PUBLIC),
        classes=dataset.classes,
        shape=tuple(dataset.records.x.shape[1:]),
        provenance=dataset.provenance,
        bundled=dataset.bundled,
        removed={**duplicates, **tangled},
        notes=(*dataset.notes, *_notes(dataset, test)),
        fitted_on_private=dataset.fitted_on_private,
    )
    check_apart(consortium)
    return consortium


def label_counts(consortium: Consortium) -> list[list[int]]:
    """Training records by label (rows) and site (columns)."""
    counts = [torch.bincount(s.records.train.y, minlength=len(consortium.classes)).tolist() for s in consortium.sites]
    return [list(row) for row in zip(*counts, strict=True)]


def _assign(
    dataset: Dataset, role: Tensor, partition: Partition, sites: int, stream: Stream
) -> tuple[Tensor, tuple[str, ...]]:
    """The site ``(n,)`` of each record (-1: none), and the sites' names."""
    pool = (role == TRAIN) | (role == VALIDATION)
    units = Units.among(dataset.records.select(pool), None if dataset.keys is None else dataset.keys[pool])
    at_unit = partition.divide(units.y, units.keys, sites, stream.generator())
    at = torch.full_like(role, -1)
    at[pool] = at_unit[units.of]
    numbers = tuple(f"site-{k}" for k in range(sites))
    if not partition.natural or units.keys is None:
        return at, numbers
    names = tuple(_name(dataset, torch.unique(units.keys[at_unit == k]).tolist()) for k in range(sites))
    return at, names if len(set(names)) == sites else numbers


def _name(dataset: Dataset, keys: list[int]) -> str:
    more = f"+{len(keys) - 1}" if len(keys) > 1 else ""
    return "site-" + re.sub(r"[^\w.-]", "-", dataset.key_name(keys[0])) + more


def _site(name: str, records: Records, role: Tensor, validation: float, non_members: float, stream: Stream) -> Site:
    """One site's pools: non-members leave its training pool first, then validation where the source gives none."""
    pool, given = records.select(role == TRAIN), records.select(role == VALIDATION)
    outside = pick_records(pool, non_members, stream.child("non-members").generator())
    rest = pool.select(~outside)
    judge = pick_records(rest, validation / (1 - non_members), stream.child("validation").generator())
    train = rest.select(~judge)
    if len(train) == 0:
        raise Refused(
            f"{name} has no training records ({len(pool)} in its pool)",
            remedy="ask for fewer sites, a more even partition, or smaller non-members and validation",
            where="partition",
        )
    return Site(name, Pools(train, rest.select(judge) if validation else given, pool.select(outside)))


def _notes(dataset: Dataset, test: float) -> Iterator[str]:
    """What a reader must know of how the pools came to be."""
    if dataset.split is None or not (dataset.split == TEST).any():
        yield f"the source gives no test split: {test:g} of its units were held out"
    if torch.equal(dataset.records.units, dataset.records.ids):
        yield "the source names no patients: each record is its own unit"


def _check_shares(sites: int, public: float, validation: float, test: float, non_members: float) -> None:
    check(sites >= 1, "sites", sites, "1 or more")
    shares = {"public": public, "validation": validation, "test": test, "non-members": non_members}
    for knob, share in shares.items():
        check(0 <= share < 1, knob, share, "a share of at least 0 and below 1")
    check(non_members + validation < 1, "non-members", non_members, "less than 1 - validation, so that some can train")


def _check_classes(dataset: Dataset, test: Records, train: Records) -> None:
    for name, records in (("test set", test), ("training pool", train)):
        present = torch.unique(records.y).tolist()
        if not present:
            raise Refused(f"the {name} is empty", remedy="hold out a share: test = 0.2", where=dataset.name)
        if len(present) == 1:
            raise Refused(
                f"the {name} holds one class only ({dataset.classes[present[0]]!r}): accuracy on it means nothing",
                remedy="give a split with records of two classes or more, or none (one is then made)",
                where=dataset.name,
            )
