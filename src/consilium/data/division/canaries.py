"""Canaries: records made to be memorised, placed among a site's training records by independent fair coins.

    noise         x uniform in [0, 1], or random words, and a label at random
    mislabelled   a record of the site's non-member pool under a label that is not its own; it leaves that pool

Those that are in belong to the training in every way: they count in n, are sampled, clipped, relabelled and charged
like any record (LAWS 16).  They are in no other pool, and no other attack targets them.  Each is its own unit.

Source: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, section 6; Nasr et al. 2023, arXiv 2302.07956 (mislabelled)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.inputs import random_inputs
from consilium.core.random import Stream
from consilium.core.records import Canaries, Consortium, Records, Site

from .apart import check_apart

__all__ = ["CanaryKind", "plant"]

CanaryKind = Literal["noise", "mislabelled"]


def plant(consortium: Consortium, *, canaries: int, kind: CanaryKind, site: str, stream: Stream) -> Consortium:
    """``consortium`` with that many canaries at the site called ``site``, or spread evenly over all if it is empty.

    Raises Refused: an unknown kind, or too few classes or records for this one.
    """
    if kind not in get_args(CanaryKind):
        raise Refused(f"there are no {kind} canaries", remedy=f"use one of {', '.join(get_args(CanaryKind))}")
    if consortium.task.exclusive and len(consortium.classes) < 2:
        reason = "canaries need two classes or more: a wrong label must exist"
        raise Refused(reason, remedy="audit a study with more classes")
    at = _places(consortium.sites, canaries, site)
    sites, groups = list(consortium.sites), []
    for k in torch.unique(at).tolist():
        draws, count = stream.child(sites[k].id), int((at == k).sum())
        records, sites[k] = _make(kind, sites[k], consortium, count, draws)
        groups.append(records)
    every = _numbered(Records.joined(groups), consortium, kind)
    included = stream.child("coins").coins(canaries, 0.5)
    for k in torch.unique(at).tolist():
        sites[k] = _with(sites[k], every.select((at == k) & included))
    planted = replace(
        consortium,
        sites=tuple(sites),
        canaries=Canaries(every, at, included),
        notes=(*consortium.notes, _note(kind, canaries, int(included.sum()), site)),
    )
    check_apart(planted)
    return planted


def _places(sites: Sequence[Site], canaries: int, site: str) -> Tensor:
    """The number of each canary's site ``(m,)``, ascending."""
    names = [s.id for s in sites]
    if site and site not in names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise Refused(f"there is no site {site!r}", remedy=f"use one of {shown}, or none to spread them", where="site")
    if site:
        return torch.full((canaries,), names.index(site))
    return (torch.arange(canaries) % len(sites)).sort().values


def _make(kind: CanaryKind, site: Site, consortium: Consortium, count: int, stream: Stream) -> tuple[Records, Site]:
    """``count`` canaries, and the site without the records they are made from."""
    generator, task, labels = stream.generator(), consortium.task, len(consortium.classes)
    if kind == "noise":
        x = _noise(count, consortium, generator)
        return Records.of(x, task.drawn(count, labels, consortium.shape, generator)), site
    pool = site.records.non_members
    rows = _one_of_each_unit(pool, count, site.id, generator)
    originals = pool.select(rows)
    wrong = task.mistaken(originals.y, labels, generator)
    rest = pool.select(~torch.isin(pool.units, originals.units))
    return originals.relabelled(wrong).bare(), _replaced(site, non_members=rest)


def _noise(count: int, consortium: Consortium, generator: torch.Generator) -> Tensor:
    """Random inputs ``(count, *shape)``, all different: two that are alike would be one canary, in and out."""
    x = random_inputs(count, consortium.shape, consortium.inputs.tokens, generator)
    different = len(torch.unique(x, dim=0)) if consortium.inputs.tokens else count
    if different < count:
        raise Refused(
            f"of {count} random records of words only {different} differ: the vocabulary or the length is too small",
            remedy='use mislabelled canaries (kind = "mislabelled"), or fewer of them',
            where="kind",
        )
    return x


def _one_of_each_unit(pool: Records, count: int, name: str, generator: torch.Generator) -> Tensor:
    """``count`` positions in ``pool``, of as many units: a canary is one unit, so its unit gives one record only."""
    order = torch.randperm(len(pool), generator=generator)
    _, unit = torch.unique(pool.units[order], return_inverse=True)
    first = torch.full((int(unit.max()) + 1 if len(pool) else 0,), len(pool)).scatter_reduce(
        0, unit, torch.arange(len(pool)), "amin"
    )
    if len(first) < count:
        raise Refused(
            f"{name} has {len(first)} units in its non-member pool and the study asks for {count} mislabelled canaries",
            remedy='use fewer canaries, a larger data.non-members, or kind = "noise"',
            where="canaries",
        )
    return order[first.sort().values[:count]]


def _numbered(records: Records, consortium: Consortium, kind: CanaryKind) -> Records:
    """Noise gets ids and units past all existing ones; a held-out record keeps its own."""
    if kind == "mislabelled":
        return records
    pools = [consortium.test, consortium.public]
    pools += [p for s in consortium.sites for p in (s.records.train, s.records.validation, s.records.non_members)]
    last = max(int(torch.cat([p.ids, p.units]).max()) for p in pools if len(p))
    fresh = torch.arange(last + 1, last + 1 + len(records))
    return replace(records, ids=fresh, units=fresh)


def _with(site: Site, more: Records) -> Site:
    return _replaced(site, train=Records.joined([site.records.train, more]))


def _replaced(site: Site, **pools: Records) -> Site:
    return replace(site, records=replace(site.records, **pools))


def _note(kind: CanaryKind, canaries: int, included: int, site: str) -> str:
    where = site or "all sites"
    return f"{canaries} {kind} canaries were made for an audit; by fair coins {included} are trained on at {where}"
