"""Membership by the losses of the shared model, round after round: those of members fall further.

    score_i = loss_i(w(1)) - mean of loss_i over every later model: w(2), ..., w(T), and the released one

One curious site evaluates every model that it receives, and the released one, on the records of the other sites.
Subtracting the loss before training corrects for each record's difficulty.

Source: Nasr et al. 2019, Comprehensive Privacy Analysis of Deep Learning, arXiv 1812.00910 (the passive local
attacker); Watson et al. 2022, arXiv 2111.08440 (difficulty calibration).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Finding
from consilium.core.round_observer import BroadcastRoundView, ObservedView, RoundObserver, one_site
from consilium.core.threat import ThreatModel
from consilium.core.update import Payload
from consilium.learn.alignment import record_losses

from ._judged import judged

__all__ = ["LossTrajectory"]

_HIGHEST = 100.0
"""Where a loss is cut off, about -log of the smallest float32: so that every score is finite."""
_BATCH = 512


@dataclass(frozen=True)
class LossTrajectory(RoundObserver[BroadcastRoundView]):
    """A site infers the others' members from the fall of their losses over the rounds; site "" is the smallest one."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "white-box", "membership")
    observes: ClassVar[type[BroadcastRoundView]] = BroadcastRoundView
    site: str = ""
    """Whose records are asked about; left out: those of every honest site."""

    def seat(self, sizes: Mapping[str, int]) -> str:
        """The named site, or the smallest: it leaves most records of other sites as targets."""
        return one_site(self.site or min(sizes, key=lambda name: sizes[name], default=""), sizes)

    def targets(self, sizes: Mapping[str, int]) -> tuple[str, ...]:
        """Everyone but the site that watches.

        Raises Refused: no other honest site, or ``site`` is none of them.
        """
        others = tuple(name for name in sizes if name != self.seat(sizes))
        if not others:
            raise Refused("there is no other honest site to attack", remedy="use two sites or more", where="site")
        return others

    def observe(self, memory: Payload, view: BroadcastRoundView) -> Payload:
        """``first (n,)`` losses, the ``sum (n,)`` of those since, and the ``models ()`` that were seen.

        Raises Refused: the broadcast is not a whole model.
        """
        if view.params.numel() != view.network.size:
            raise Refused("what is broadcast is no whole model", remedy="attack an algorithm that shares every layer")
        losses = _cut(record_losses(view.network, view.params, view.buffers, view.candidates, view.task))
        if not memory:
            return {"first": losses, "sum": torch.zeros_like(losses), "models": torch.tensor(1)}
        return {"first": memory["first"], "sum": memory["sum"] + losses, "models": memory["models"] + 1}

    def run(self, view: ObservedView, memory: Payload, generator: torch.Generator) -> Finding:
        """Add the released model, one query per candidate.  Scores: ``score``, ``member``, ``known`` (n,).

        Raises Refused: the observing site took part in no round.
        """
        if not memory:
            raise Refused("the site that watches was in no round", remedy="use more rounds or a larger fraction")
        last = torch.cat([_answered(view, i) for i in range(0, max(1, len(view.candidates)), _BATCH)])
        later = (memory["sum"][view.rows] + last) / int(memory["models"])
        note = f"losses of {int(memory['models'])} broadcast models and of the released one"
        return judged(memory["first"][view.rows] - later, view, generator, note)


def _answered(view: ObservedView, start: int) -> Tensor:
    x, y = (part[start : start + _BATCH] for part in (view.candidates.x, view.candidates.y))
    return _cut(view.task.losses(view.ask(x).double(), y).cpu())


def _cut(losses: Tensor) -> Tensor:
    return torch.nan_to_num(losses, nan=_HIGHEST).clamp(max=_HIGHEST)
