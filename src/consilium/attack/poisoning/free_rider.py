"""Free rider: the corrupted site trains nothing and sends the broadcast back, with a little noise to look trained.

    delta' ~ N(0, (noise t^-decay)^2)        in round t, so that it shrinks as honest updates do

Nothing is planted: what the federation loses is the site's records, and what the site gets is the model.  Whether an
update is told from a trained one is up to a defence that reads each.

Source: Fraboni et al. 2021, Free-rider Attacks on Model Aggregation in Federated Learning, arXiv 2006.11901
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from consilium.core.attack import Corruption
from consilium.core.collusion import ColludingView
from consilium.core.entry import check
from consilium.core.threat import RoundView, ThreatModel, require
from consilium.core.update import Payload, Update

__all__ = ["FreeRider"]


@dataclass(frozen=True)
class FreeRider(Corruption):
    """Sends the broadcast model back, disguised by noise that shrinks over the rounds."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")
    needs: ClassVar[type[RoundView]] = ColludingView

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    noise: float = 0.001
    """Standard deviation of each coordinate in the first round; 0 sends exactly what was received."""
    decay: float = 1.0
    """How fast it shrinks: the noise of round t is divided by t to this power."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")
        check(0 <= self.noise < float("inf"), "noise", self.noise, "a number of at least 0")
        check(0 <= self.decay <= 10, "decay", self.decay, "0 to 10")

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """No change of anything but noise on the parameters."""
        granted = require(view, ColludingView, self.kind())
        return [self._idle(update, granted) for update in updates], memory

    def _idle(self, update: Update, view: ColludingView) -> Update:
        payload = {name: torch.zeros_like(tensor) for name, tensor in update.payload.items()}
        payload |= {"steps": update.payload["steps"]} if "steps" in payload else {}
        if self.noise > 0:
            deviation = self.noise / view.round**self.decay
            stream = view.stream.child("free-rider", update.site, view.round)
            payload["delta"] = stream.noised(payload["delta"], deviation)
        return replace(update, payload=payload)
