"""The views that an attack is granted on one released model: exactly what its threat model names."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from consilium.core.attack import Attack
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Canaries, Consortium, Records
from consilium.core.threat import CanaryView, ModelView, QueryView, View

from .released import Released

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
    start: nn.Module | None = None,
) -> View:
    """The view that ``attack`` needs, and no more; ``start`` is the model before training."""
    if attack.needs is ModelView:
        return _white_box(data, model, None if source is None else _white_box(data, source, None))
    if attack.needs is QueryView:
        records, member, known = candidates(data, honest, stream)
        return QueryView(len(data.classes), model.module, records, member, known)
    if attack.needs is CanaryView:
        shown = CanaryView(len(data.classes), model.module, audited(data, honest).records)
        white = attack.threat.knowledge == "white-box"
        return replace(shown, start=start, module=model.surrogate) if white else shown
    raise Refused(f"this version grants no {attack.needs.__name__} to {attack.kind()}")


def candidates(data: Consortium, honest: tuple[str, ...], stream: Stream) -> tuple[Records, Tensor, Tensor]:
    """Records of honest sites that took part, who was trained on ``(n,)``, which half the adversary knows ``(n,)``.

    Members and non-members come from the same sites' pools, held apart before training (LAWS 17); an audit's canaries
    were made to stand out, and are not asked about.
    """
    if not honest:
        raise Refused("no honest site took part in the training", remedy="use more rounds or a larger fraction")
    among = frozenset(honest)
    inside = _joined([_natural(s.records.train, data.canaries) for s in data.sites if s.id in among])
    outside = _joined([s.records.non_members for s in data.sites if s.id in among])
    order = torch.randperm(len(inside), generator=stream.child("members").generator())[:_MOST_MEMBERS]
    inside = inside.select(order)
    member = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))]).bool()
    known = torch.zeros(len(member), dtype=torch.bool)
    for truth in (True, False):
        places = torch.nonzero(member == truth)[:, 0]
        draw = torch.randperm(len(places), generator=stream.child("known", int(truth)).generator())
        known[places[draw[: len(places) // 2]]] = True
    return _joined([inside, outside]), member, known


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


def _natural(records: Records, planted: Canaries | None) -> Records:
    return records if planted is None else records.select(~torch.isin(records.ids, planted.records.ids))


def _white_box(data: Consortium, model: Released, source: ModelView | None) -> ModelView:
    return ModelView(len(data.classes), model.module, model.surrogate, data.test, source)


def _joined(parts: list[Records]) -> Records:
    return Records(
        torch.cat([p.x for p in parts]),
        torch.cat([p.y for p in parts]),
        torch.cat([p.ids for p in parts]),
        torch.cat([p.units for p in parts]),
    )
