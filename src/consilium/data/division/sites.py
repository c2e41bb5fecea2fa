"""The pools of LAWS 17, in the one order that keeps them apart.

    load -> verify -> drop duplicates -> test | public | what is left, partitioned over the sites
    per site: non-members | validation | train

Every step divides units and draws from its own stream: "test", "public", "partition", and ("pools", site).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Consortium, Pools, Records, Site
from consilium.core.task import Task
from consilium.data.checks.column_scales import check_columns, check_quantities
from consilium.data.checks.duplicates import deduplicate, untangle
from consilium.data.checks.label_copies import check_label_copies
from consilium.data.checks.names import check_names
from consilium.data.checks.omissions import check_whole, first
from consilium.data.checks.scales import check_scales
from consilium.data.checks.site_classes import check_site_classes
from consilium.data.checks.verify import check_trained, verified
from consilium.data.dataset import TEST, TRAIN, VALIDATION, Dataset
from consilium.data.partition import Partition
from consilium.data.source import Source

from .apart import check_apart
from .moved import moved_records
from .public_words import unknown_words, with_public_words
from .sides import check_patients, check_sides
from .splits import PUBLIC, Units, pick_records, roles

__all__ = ["gather", "label_counts"]


def gather(
    source: Source,
    partition: Partition,
    task: Task,
    *,
    sites: int,
    public: float,
    validation: float,
    test: float,
    non_members: float,
    stream: Stream,
    shared_patients: bool = False,
    testless: bool = False,
) -> Consortium:
    """Load ``source`` and divide it over ``sites`` sites.

    ``test`` is the share held out where the source gives no test split, ``public`` that of the training pool taken out
    for everyone; ``non_members`` and ``validation`` (where the source gives none) are shares of each site's own
    training pool; ``shared_patients``: one id is one person at all sites; ``testless``: a
    test share of 0 is lawful, as at a site of a deployment.  Refused: what cannot be used, a test set of
    one class, a site without data, by its name, and ids that each site seems to give by itself.
    """
    _check_shares(sites, public, validation, test, non_members)
    source_data = verified(source.load_for(task), task)
    named = check_names(source_data, shared_patients=shared_patients)
    varied = task.check_variety(source_data.records.y, source_data.classes, source_data.name)
    scaled = () if source_data.inputs.tokens else (*check_scales(source_data), *check_columns(source_data))
    meanings = (*check_site_classes(source_data, task), *check_quantities(source_data, task))
    copies = check_label_copies(source_data, task)
    cautions = (*source_data.cautions, *varied, *named, *scaled, *meanings, *copies)
    dataset, duplicates = deduplicate(source_data)
    check_whole(source_data, dataset, task, "exact duplicates", "keep one copy of these records, where they belong")
    check_patients(dataset)
    whole, (dataset, tangled) = dataset, untangle(dataset)
    check_whole(
        whole, dataset, task, "records whose patient stands in a higher split", "give each patient to one split"
    )
    strata = task.strata(dataset.records.y)
    role = roles(dataset, strata, test=test, public=public, stream=stream)
    if dataset.provisional is not None:
        settled = with_public_words(dataset, role == PUBLIC)
        dataset, alike = deduplicate(settled)
        stays = torch.isin(settled.records.ids, dataset.records.ids)
        role, strata = role[stays], strata[stays]
        duplicates |= {f"{place} (alike in public words)": count for place, count in alike.items()}
        check_whole(settled, dataset, task, "texts alike in public words", "make the public slice or most-words larger")
    test_records = dataset.records.select(role == TEST)
    check_sides(dataset, task, role, tangled, test=test, testless=testless)
    if task.exclusive:
        check_trained(dataset)
    at, names, moved = _assign(dataset, strata, role, partition, sites, stream.child("partition"))
    cautions = (*cautions, *moved)
    own_validation = 0.0 if (role == VALIDATION).any() else validation
    divided = [
        _pools(name, dataset.records, strata, role, places, own_validation, non_members, stream.child("pools", k))
        for k, (name, places) in enumerate(zip(names, _by_site(at, len(names)), strict=True))
    ]
    consortium = Consortium(
        name=dataset.name,
        sites=tuple(_sites(names, dataset.records, divided)),
        test=test_records,
        public=dataset.records.select(role == PUBLIC),
        classes=dataset.classes,
        task=task,
        shape=tuple(dataset.records.x.shape[1:]),
        provenance=dataset.provenance,
        bundled=dataset.bundled,
        removed={**duplicates, **tangled},
        notes=(*dataset.notes, *cautions, *_notes(dataset, partition, test, test_records, task)),
        fitted_on_private=dataset.fitted_on_private,
        omitted=(*dataset.omitted, *unknown_words(dataset)),
        inputs=dataset.inputs,
        cautions=cautions,
    )
    check_apart(consortium)
    return consortium


def label_counts(consortium: Consortium) -> list[list[int]]:
    """Training records by label (rows) and site (columns): by class, or by finding; none where labels are no counts."""
    task, labels = consortium.task, len(consortium.classes)
    if not task.exclusive and not task.counted:
        return []
    count = partial(torch.bincount, minlength=labels) if task.exclusive else partial(torch.sum, dim=0)
    counts = [count(site.records.train.y).tolist() for site in consortium.sites]
    return [list(row) for row in zip(*counts, strict=True)]


def _assign(
    dataset: Dataset, strata: Tensor, role: Tensor, partition: Partition, sites: int, stream: Stream
) -> tuple[Tensor, tuple[str, ...], tuple[str, ...]]:
    """The site ``(n,)`` of each record (-1: none), the sites' names, and notes on records that changed theirs."""
    dataset = partition.keyed(dataset)
    pool = (role == TRAIN) | (role == VALIDATION)
    records, keys = dataset.records, None if dataset.keys is None else dataset.keys[pool]
    units = Units.among(strata[pool], records.units[pool], keys)
    if partition.natural and keys is not None and units.keys is not None:
        _refuse_emptied(dataset, keys, units.keys)
    at_unit = partition.divide(units.y, units.keys, sites, stream.generator())
    at = torch.full_like(role, -1)
    at[pool] = at_unit[units.of]
    numbers = tuple(f"site-{k}" for k in range(sites))
    if not partition.natural or units.keys is None:
        return at, numbers, ()
    moved = moved_records(dataset, units.keys[units.of], pool)
    names = tuple(_name(dataset, torch.unique(units.keys[at_unit == k]).tolist()) for k in range(sites))
    return at, names if len(set(names)) == sites else numbers, moved


def _refuse_emptied(dataset: Dataset, keys: Tensor, homes: Tensor) -> None:
    """A patient belongs to the site with most of their records; refuse if a natural site has no patient left."""
    for key in torch.unique(keys[~torch.isin(keys, homes)]).tolist():
        raise Refused(
            f"no patient is left at site {dataset.key_name(key)!r}: each has as many records at another "
            "site, or more, and is assigned there",
            remedy="make ids unique if each site gives its own, or take this site's records out of the data",
            where="partition",
        )


def _name(dataset: Dataset, keys: list[int]) -> str:
    more = f"+{len(keys) - 1}" if len(keys) > 1 else ""
    return "site-" + re.sub(r"[^\w.-]", "-", dataset.key_name(keys[0])) + more


def _by_site(at: Tensor, sites: int) -> tuple[Tensor, ...]:
    """The positions of each site's records, ascending."""
    sizes = torch.bincount(at[at >= 0], minlength=sites).tolist()
    return torch.split(at.argsort(stable=True)[int((at < 0).sum()) :], sizes)


def _pools(
    name: str,
    records: Records,
    strata: Tensor,
    role: Tensor,
    places: Tensor,
    validation: float,
    non_members: float,
    stream: Stream,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where one site's train, validation and non-member records stand; ``places`` are all it has.

    Non-members leave its training pool first, then validation where the source gives none.  Of two units or more a
    share above 0 is one at least and never all: so a site with a single unit trains on it and judges nothing.
    """
    pool, source_validation = places[role[places] == TRAIN], places[role[places] == VALIDATION]
    outside = _picked(records, strata, pool, non_members, stream.child("non-members"))
    rest = pool[~outside]
    judge = _picked(records, strata, rest, validation / (1 - non_members), stream.child("validation"))
    if bool(judge.all()):
        raise Refused(
            f"{name} has no training records ({len(pool)} in its pool)",
            remedy="use fewer sites, a more even partition, or smaller non-members and validation",
            where="partition",
        )
    return rest[~judge], rest[judge] if validation else source_validation, pool[outside]


def _picked(records: Records, strata: Tensor, at: Tensor, share: float, stream: Stream) -> Tensor:
    return pick_records(strata[at], records.units[at], share, stream.generator())


def _sites(names: tuple[str, ...], records: Records, divided: list[tuple[Tensor, Tensor, Tensor]]) -> Iterator[Site]:
    """Sites whose pools are views of one copy of the records, each pool in one piece."""
    places = [at for pools in divided for at in pools]
    pieces = iter(records.select(torch.cat(places)).split([len(at) for at in places]))
    for name in names:
        yield Site(name, Pools(next(pieces), next(pieces), next(pieces)))


def _notes(dataset: Dataset, partition: Partition, test: float, test_records: Records, task: Task) -> Iterator[str]:
    """Notes on how the pools were made."""
    if dataset.split is None or not (dataset.split == TEST).any():
        yield f"the source gives no test split: {test:g} of its units were held out"
    if len(torch.unique(dataset.records.units)) == len(dataset.records):
        named = dataset.names_units
        yield "each patient has one record" if named else "the source names no patients: each record is its own unit"
    if dataset.keys is not None and not partition.natural:
        names = [dataset.key_name(key) for key in torch.unique(dataset.keys).tolist()]
        shown = ", ".join(first(names))
        yield f"the data come from {len(names)} sites ({shown}), which partition {partition.kind()} mixes"
    if task.counted:
        yield from _unranked(test_records, dataset.classes)
    if not task.exclusive:
        return
    absent = sorted(set(range(len(dataset.classes))) - set(dataset.records.y.tolist()))
    if absent:
        classes = ", ".join(repr(dataset.classes[label]) for label in absent)
        yield f"no record at all, in training or in test, is of {classes}: what is declared is answered, never judged"
    untested = set(dataset.records.y.tolist()) - set(test_records.y.tolist())
    if untested:
        classes = ", ".join(repr(dataset.classes[label]) for label in sorted(untested))
        yield f"the test set has no record of {classes}: no figure on it speaks of them"


def _unranked(test_records: Records, labels: tuple[str, ...]) -> Iterator[str]:
    """A note on findings of which all test records have one answer: they have no AUROC."""
    counts = zip(labels, test_records.y.sum(0).tolist(), strict=True)
    constant = [repr(label) for label, count in counts if count in (0, len(test_records))]
    if constant:
        yield (
            f"all test records have {', '.join(first(constant))}, or none has: the macro figures are means of "
            f"{len(labels) - len(constant)} of {len(labels)} findings"
        )


def _check_shares(sites: int, public: float, validation: float, test: float, non_members: float) -> None:
    check(sites >= 1, "sites", sites, "1 or more")
    shares = {"public": public, "validation": validation, "test": test, "non-members": non_members}
    for knob, share in shares.items():
        check(0 <= share < 1, knob, share, "a share of at least 0 and below 1")
    check(non_members + validation < 1, "non-members", non_members, "less than 1 - validation, so that some can train")
