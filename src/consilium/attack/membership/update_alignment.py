"""Membership by a site's update: a step along a record's gradient aligns with it, and lowers its loss.

    cosine     s_i(t) = <-delta_k(t), g_i(t)> / (||delta_k(t)|| ||g_i(t)||),   g_i(t) = gradient of record i at w(t)
    dot        s_i(t) = <-delta_k(t), g_i(t)>
    loss-drop  s_i(t) = loss_i(w(t)) - loss_i(w(t) + delta_k(t))

The server, which follows the protocol and is curious, takes every candidate's statistic against the update of the
candidate's own site k, in each round in which that site sent one; the score is the mean over those rounds.  In a model
with many more parameters than records gradients are nearly orthogonal, so that non-members have cosines near 0.

Source: Li et al. 2023, Effective passive membership inference attacks in federated learning against overparameterized
models, ICLR (cosine); Nasr et al. 2019, arXiv 1812.00910 (the passive global attacker).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Finding
from consilium.core.records import Records
from consilium.core.round_observer import ObservedView, RoundObserver, UpdateRoundView, one_site
from consilium.core.threat import ThreatModel
from consilium.core.update import Payload, Update
from consilium.learn.alignment import alignments, record_losses

from ._judged import judged

__all__ = ["UpdateAlignment"]

_HIGHEST = 1e6
"""Where a drop of the loss is cut off, so that every score is finite."""


@dataclass(frozen=True)
class UpdateAlignment(RoundObserver[UpdateRoundView]):
    """The server infers a site's members by aligning its updates with their gradients; site "" is every site."""

    threat: ClassVar[ThreatModel] = ThreatModel("server", "training", "white-box", "membership")
    observes: ClassVar[type[UpdateRoundView]] = UpdateRoundView
    statistic: Literal["cosine", "dot", "loss-drop"] = "cosine"
    """What of an update and a record is compared: angle, inner product, or how the record's loss falls."""
    site: str = ""
    """Whose records are asked about; left out: those of every honest site."""

    def targets(self, sizes: Mapping[str, int]) -> tuple[str, ...]:
        """The named site, or all: each is attacked through its own updates, and the scores are evaluated together."""
        return (one_site(self.site, sizes),) if self.site else tuple(sizes)

    def observe(self, memory: Payload, view: UpdateRoundView) -> Payload:
        """``sum (n,)`` of the statistic and ``rounds (n,)`` that it is over."""
        none = torch.zeros(len(view.candidates), dtype=torch.float64)
        total, rounds = memory.get("sum", none).clone(), memory.get("rounds", none).clone()
        for site, rows in view.of.items():
            if site in view.updates:
                total[rows] += self._statistic(view, view.candidates.select(rows), view.updates[site])
                rounds[rows] += 1
        return {"sum": total, "rounds": rounds}

    def run(self, view: ObservedView, memory: Payload, generator: torch.Generator) -> Finding:
        """The mean over rounds.  Scores: ``score``, ``member``, ``known`` (n,)."""
        rounds = memory["rounds"][view.rows]
        scores = memory["sum"][view.rows] / rounds.clamp_min(1)
        note = f"{self.statistic} over {int(rounds.min())} to {int(rounds.max())} updates of a record's own site"
        return judged(scores, view, generator, note)

    def _statistic(self, view: UpdateRoundView, records: Records, update: Update) -> Tensor:
        delta = _whole(update, view)
        if self.statistic == "loss-drop":
            buffers = view.buffers + update.payload.get("buffers", torch.zeros_like(view.buffers))
            before = record_losses(view.network, view.params, view.buffers, records, view.task)
            drop = before - record_losses(view.network, view.params + delta, buffers, records, view.task)
            return torch.nan_to_num(drop, nan=-_HIGHEST).clamp(-_HIGHEST, _HIGHEST)
        dots, norms = alignments(view.network, view.params, view.buffers, records, -delta, view.task)
        if self.statistic == "cosine":
            dots = dots / (norms * delta.double().norm().cpu()).clamp_min(torch.finfo(torch.float32).tiny)
        return torch.nan_to_num(dots, nan=0.0, posinf=_HIGHEST, neginf=-_HIGHEST)


def _whole(update: Update, view: UpdateRoundView) -> Tensor:
    delta = update.payload.get("delta")
    if delta is None or delta.shape != view.params.shape or delta.numel() != view.network.size:
        raise Refused(
            "the updates of this algorithm are no change of a whole model",
            remedy="attack an algorithm that shares every layer",
        )
    return delta
