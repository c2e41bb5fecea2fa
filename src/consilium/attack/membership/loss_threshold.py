"""Membership by loss: what a model has learned from, it answers with a smaller loss.

    score(x, y) = log p(y | x) = -CE,   member if score >= t,   t learned on the calibration half

Source: Yeom et al. 2018, Privacy Risk in Machine Learning, arXiv 1709.01604.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from consilium.core.attack import Attack
from consilium.core.finding import Finding
from consilium.core.threat import QueryView, ThreatModel
from consilium.core.update import Payload

from ._judged import judged
from ._likelihood import FLOOR, log_likelihoods

__all__ = ["LossThreshold"]


@dataclass(frozen=True)
class LossThreshold(Attack[QueryView]):
    """Infers membership from the loss of one answer per record."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[QueryView]] = QueryView

    def run(self, view: QueryView, memory: Payload, generator: torch.Generator) -> Finding:
        """One query per candidate.  Scores: ``score``, ``member``, ``known`` (n,)."""
        scores = log_likelihoods(view.ask, view.candidates.x, view.candidates.y, view.task)
        floored = int((scores <= FLOOR).sum())
        notes = (f"{floored} scores lie at the floor {FLOOR:.1f} (probability answered as 0)",) if floored else ()
        return judged(scores, view, generator, *notes)
