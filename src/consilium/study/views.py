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
from consilium.core.threat import CanaryView, ModelView, QueryView, RecordsView, RetrainView, View

from .released import Released
from .retrain import Retraining

__all__ = ["audited", "candidates", "grant"]

_MOST_MEMBERS = 5000
"""Members asked about; drawn at random where there are more.  All non-members are asked about."""


def grant(
    attack: Attack,
    data: Consortium,
    honest: tuple[str, ...],
    model: Released,
    source: Released | None,
    stream: Stream,
    retraining: Callable[[], Retraining] | None = None,
    start: nn.Module | None = None,
) -> View:
    """The view that ``attack`` needs, and no more; the candidates are the same for every attack on a model.

    ``start`` is the model before training.
    """
    if attack.needs is ModelView:
        return _white_box(data, model, None if source is None else _white_box(data, source, None))
    if attack.needs in (RecordsView, QueryView, RetrainView):
        told = candidates(data, honest, stream.child("candidates"))
        if attack.needs is RecordsView:
            return RecordsView(len(data.classes), *told)
        if attack.needs is QueryView:
            return QueryView(len(data.classes), model.module, *told)
        if retraining is not None:
            return _retraining(data, model, told, retraining())
    if attack.needs is CanaryView:
        shown = CanaryView(len(data.classes), model.module, audited(data, honest).records)
        white = attack.threat.knowledge == "white-box"
        return replace(shown, start=start, module=model.surrogate) if white else shown
    raise Refused(f"this version grants no {attack.needs.__name__} to {attack.kind()}")


def _retraining(
    data: Consortium, model: Released, told: tuple[Records, Tensor, Tensor], shadows: Retraining
) -> RetrainView:
    pool = shadows.pool
    order = pool.records.ids.argsort()
    at = order[torch.searchsorted(pool.records.ids[order], told[0].ids)]
    return RetrainView(
        len(data.classes),
        model.module,
        *told,
        pool=pool.records,
        site=pool.site,
        sizes=pool.sizes,
        at=at,
        retrain=shadows.fit,
        stream=shadows.stream,
    )


def candidates(data: Consortium, honest: tuple[str, ...], stream: Stream) -> tuple[Records, Tensor, Tensor]:
    """Records of honest sites that took part, who was trained on ``(n,)``, which half the adversary knows ``(n,)``.

    Members and non-members come from the same sites' pools, held apart before training (LAWS 17); an audit's canaries
    were made to stand out, and are not asked about.
    """
    if not honest:
        raise Refused("no honest site took part in the training", remedy="use more rounds or a larger fraction")
    among = frozenset(honest)
    inside = Records.joined([data.natural(s.records.train) for s in data.sites if s.id in among])
    outside = Records.joined([s.records.non_members for s in data.sites if s.id in among])
    order = torch.randperm(len(inside), generator=stream.child("members").generator())[:_MOST_MEMBERS]
    inside = inside.select(order)
    member = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))]).bool()
    known = torch.zeros(len(member), dtype=torch.bool)
    for truth in (True, False):
        places = torch.nonzero(member == truth)[:, 0]
        draw = torch.randperm(len(places), generator=stream.child("known", int(truth)).generator())
        known[places[draw[: len(places) // 2]]] = True
    return Records.joined([inside, outside]), member, known


def audited(data: Consortium, honest: tuple[str, ...]) -> Canaries:
    """The canaries of honest sites that took part: those of others were never protected, or never trained on."""
    planted = data.canaries
    if planted is None:
        raise Refused("there are no canaries to guess", remedy="write the table [audit]")
    numbers = torch.tensor([k for k, site in enumerate(data.sites) if site.id in honest], dtype=torch.long)
    kept = torch.isin(planted.site, numbers)
    if int(kept.sum()) < 2:
        raise Refused(
            "fewer than two canaries are at honest sites that took part in the training",
            remedy="plant more of them, at a site that is not corrupted and takes part",
        )
    return Canaries(planted.records.select(kept), planted.site[kept], planted.included[kept])


def _white_box(data: Consortium, model: Released, source: ModelView | None) -> ModelView:
    return ModelView(len(data.classes), model.module, model.surrogate, data.test, source)
