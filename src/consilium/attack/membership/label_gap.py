"""Membership by the generalisation gap: a record whose label is answered rightly is taken for a member.

    score = [the answer is right]          advantage = accuracy on members - accuracy on non-members

It needs the label alone, and is what any other attack by labels has to beat.

Source: Yeom et al. 2018, Privacy Risk in Machine Learning, arXiv 1709.01604 (the gap attack).
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
from ._shadow_scores import right_answers

__all__ = ["LabelGap"]


@dataclass(frozen=True)
class LabelGap(Attack[QueryView]):
    """Takes rightly answered records for members."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[QueryView]] = QueryView

    def run(self, view: QueryView, memory: Payload, generator: torch.Generator) -> Finding:
        """One query per candidate.  Scores: ``score``, ``member``, ``known`` (n,)."""
        return judged(right_answers(view.ask, view.candidates, view.task).double(), view, generator)
