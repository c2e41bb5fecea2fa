"""Where a study asks for more than there is, and its knob promises "as many as there are": said before anything trains.

Knobs at their defaults are not spoken of.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from consilium.core.defence import MergeDefence
from consilium.core.errors import Refused
from consilium.core.merge import Cohort
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.study.spec.arms import arms
from consilium.study.spec.federation_table import FederationShape
from consilium.study.spec.spec import Spec, TrainingSpec

__all__ = ["public_shortfalls", "training_shortfalls"]


def training_shortfalls(spec: TrainingSpec, data: Consortium) -> tuple[str, ...]:
    """A note for each: public records, large batches, and canaries or corrupted sites that are too many."""
    return (*public_shortfalls(spec, data), *_batch(spec, data), *_canaries(data), *_outnumbered(spec))


def public_shortfalls(spec: Spec, data: Consortium) -> tuple[str, ...]:
    """A note for each kind of defence of the model that wants more public records than there are."""
    return tuple(_public(spec, data))


def _public(spec: Spec, data: Consortium) -> Iterator[str]:
    wanted = {(d.kind(), d.wanted_public()) for arm in arms(spec) for d in arm.model}
    for kind, count in sorted(wanted):
        if count > len(data.public) > 0:
            yield f"{kind} was to use {count} public records, and there are {len(data.public)}: all of them are used"


def _batch(spec: TrainingSpec, data: Consortium) -> Iterator[str]:
    if spec.federation.shape.batch == FederationShape.batch:
        return
    batch, most = spec.federation.shape.batch, max(len(site.records.train) for site in data.sites)
    if batch > most:
        yield (
            f"federation.batch = {batch}, and no site has more than {most} training records: a step is of all of a "
            "site's records, as with batch = 0"
        )


def _canaries(data: Consortium) -> Iterator[str]:
    if data.canaries is None:
        return
    counts = torch.bincount(data.canaries.site[data.canaries.included], minlength=len(data.sites)).tolist()
    for site, count in zip(data.sites, counts, strict=True):
        records = len(site.records.train) - count
        if count > records:
            beside = f"beside {records} records: figures of this study are theirs"
            yield f"{count} canaries are trained on at {site.id} {beside}"


def _outnumbered(spec: TrainingSpec) -> Iterator[str]:
    """A note for each merge that withstands fewer sites than a corruption has."""
    if not spec.corruptions:
        return
    sites, among = spec.data.shares.sites, spec.federation.cohort(spec.data.shares.sites)
    rules = {defence.kind(): _withstood(defence, among, sites) for arm in arms(spec) for defence in arm.merge}
    for corruption in spec.corruptions:
        count = corruption.count(sites)
        for kind, most in sorted(rules.items()):
            if most is not None and count > most:
                yield (
                    f"{corruption.name} has {count} of {sites} sites, and {kind} withstands {most} at most: what it "
                    "merges may be theirs"
                )


def _withstood(defence: MergeDefence, among: Cohort, sites: int) -> int | None:
    try:
        return defence.merge_for(among, Stream(0)).withstood(sites)
    except Refused:  # its arm is refused by the plan with the reason
        return None
