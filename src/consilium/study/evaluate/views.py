"""The views that an attack is granted on one released model: exactly what its threat model names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from consilium.core.attack import Attack
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Canaries, Consortium, Records
from consilium.core.threat import BackdoorView, CanaryView, ModelView, QueryView, RecordsView, RetrainView, View

from .release import Released
from .shadow_training import Retraining

__all__ = ["audited", "candidates", "grant"]

_MOST_MEMBERS = 5000
"""Members asked about; those of the smallest keyed hash where there are more.  All non-members are asked about."""


def grant(
    attack: Attack,
    data: Consortium,
    sites: tuple[str, ...],
    model: Released,
    source: Released | None,
    stream: Stream,
    retraining: Callable[[], Retraining] | None = None,
    start: nn.Module | None = None,
) -> View:
    """The view that ``attack`` needs, and no more; the candidates are the same for every attack on a model.

    ``sites`` are those whose records it asks about; ``start`` is the model before training.

    Raises Refused: this version has no such view.
    """
    if attack.needs is ModelView:
        return _white_box(data, model, None if source is None else _white_box(data, source, None))
    if attack.needs is BackdoorView:
        twin = None if source is None else source.module
        return BackdoorView(len(data.classes), model.module, data.test, twin, task=data.task)
    if attack.needs in (RecordsView, QueryView, RetrainView):
        candidate_set = candidates(data, sites, stream.child("candidates"))
        if attack.needs is RecordsView:
            return RecordsView(len(data.classes), *candidate_set, task=data.task)
        if attack.needs is QueryView:
            return QueryView(len(data.classes), model.module, *candidate_set, task=data.task)
        if retraining is not None:
            return _retraining(data, model, candidate_set, retraining())
    if attack.needs is CanaryView:
        shown = CanaryView(len(data.classes), model.module, audited(data, sites).records, task=data.task)
        white = attack.threat.knowledge == "white-box"
        return replace(shown, start=start, module=model.surrogate) if white else shown
    raise Refused(f"this version grants no {attack.needs.__name__} to {attack.kind()}")


def _retraining(
    data: Consortium, model: Released, candidate_set: tuple[Records, Tensor, Tensor], shadows: Retraining
) -> RetrainView:
    pool = shadows.pool
    order = pool.records.ids.argsort()
    at = order[torch.searchsorted(pool.records.ids[order], candidate_set[0].ids)]
    return RetrainView(
        len(data.classes),
        model.module,
        *candidate_set,
        pool=pool.records,
        site=pool.site,
        sizes=pool.sizes,
        at=at,
        retrain=shadows.fit,
        stream=shadows.stream,
        task=data.task,
    )


def candidates(data: Consortium, sites: tuple[str, ...], stream: Stream) -> tuple[Records, Tensor, Tensor]:
    """Records of the ``sites`` asked about, who was trained on ``(n,)``, which half the adversary knows ``(n,)``.

    Members and non-members come from the same sites' pools, held apart before training (LAWS 17); an audit's canaries
    were made to stand out, and are not asked about.  Who is drawn and which half a record is in follow from its id and
    its unit's, so they are the same for every model of a seed (LAWS 22).  A unit is in one half: its other records
    would tell of it.

    Raises Refused: there are no ``sites``.
    """
    if not sites:
        raise Refused(
            "no site that is honest in every infection took part in the training",
            remedy="use more rounds, a larger fraction or fewer corrupted sites",
        )
    among = [site for site in data.sites if site.id in frozenset(sites)]
    inside = Records.joined([data.natural(s.records.train) for s in among])
    outside = Records.joined([s.records.non_members for s in among])
    inside = inside.select(stream.child("members").keyed(inside.ids).argsort()[:_MOST_MEMBERS])
    member = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))]).bool()
    every = (
        torch.cat([data.natural(s.records.train).units for s in data.sites]),
        torch.cat([s.records.non_members.units for s in data.sites]),
    )
    halves = [
        torch.isin(part.units, _half(units, stream.child("known", truth)))
        for part, units, truth in zip((inside, outside), every, (1, 0), strict=True)
    ]
    return Records.joined([inside, outside]).bare(), member, torch.cat(halves)


def _half(units: Tensor, stream: Stream) -> Tensor:
    """Half of the different ``units``: those of the smaller keyed hash, of all sites, whoever is asked."""
    different: Tensor = torch.unique(units)
    return different[stream.keyed(different).argsort()[: len(different) // 2]]


def audited(data: Consortium, sites: tuple[str, ...]) -> Canaries:
    """The canaries of the ``sites`` asked about: those of others were never protected, or never trained on.

    Raises Refused: no canaries were planted, or fewer than two of them at ``sites``.
    """
    planted = data.canaries
    if planted is None:
        raise Refused("there are no canaries to guess", remedy="write the table [audit]")
    numbers = torch.tensor([k for k, site in enumerate(data.sites) if site.id in sites], dtype=torch.long)
    mask = torch.isin(planted.site, numbers)
    if int(mask.sum()) < 2:
        raise Refused(
            "fewer than two canaries are at honest sites that took part in the training",
            remedy="plant more of them, at a site that is not corrupted and takes part",
        )
    return Canaries(planted.records.select(mask).bare(), planted.site[mask], planted.included[mask])


def _white_box(data: Consortium, model: Released, source: ModelView | None) -> ModelView:
    public = data.public.bare() if len(data.public) else None
    return ModelView(
        len(data.classes), model.module, model.surrogate, data.test.bare(), source, task=data.task, public=public
    )
