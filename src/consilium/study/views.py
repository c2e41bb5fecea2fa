"""The views that an attack is granted on one released model: exactly what its threat model names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from consilium.core.attack import Attack
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Consortium, Records
from consilium.core.threat import ModelView, QueryView, RecordsView, RetrainView, View
from consilium.core.watch import Watcher

from .released import Released
from .retrain import Retraining
from .spec import Spec

__all__ = ["candidates", "check_watchers", "grant", "honest_sizes"]

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
) -> View:
    """The view that ``attack`` needs, and no more; the candidates are the same for every attack on a model."""
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

    Members and non-members come from the same sites' pools, held apart before training (LAWS 17).
    """
    if not honest:
        raise Refused("no honest site took part in the training", remedy="use more rounds or a larger fraction")
    among = frozenset(honest)
    inside = Records.joined([s.records.train for s in data.sites if s.id in among])
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


def honest_sizes(data: Consortium, bad: Sequence[str]) -> dict[str, int]:
    """The honest sites, with their numbers of training records."""
    return {site.id: len(site.records.train) for site in data.sites if site.id not in bad}


def check_watchers(spec: Spec, data: Consortium) -> None:
    """Refuse, before anything trains, a watching attack that has no place in the study."""
    for i, attack in enumerate(spec.attacks):
        if not isinstance(attack.attack, Watcher):
            continue
        if spec.audit:
            reason = f"{attack.name} watches the rounds of a training, and an audit trains nothing"
            raise Refused(reason, remedy="leave it out, or train the model in the study", where=f"attacks[{i}]")
        try:
            attack.attack.targets(honest_sizes(data, ()))
        except Refused as error:
            raise error.at(f"attacks[{i}]") from error


def _white_box(data: Consortium, model: Released, source: ModelView | None) -> ModelView:
    return ModelView(len(data.classes), model.module, model.surrogate, data.test, source)
