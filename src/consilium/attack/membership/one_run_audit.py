"""The one-run audit's adversary: which canaries were trained on, by the loss of one answer each.

    score(x, y) = log p(y | x) = -CE;   the highest scores are guessed to be in, the lowest to be out

It reads the canaries and the released model's answers, never the coins; which guesses are right, and what lower bound
of epsilon follows, is worked out by the study, which holds them.  A study needs the table ``[audit]`` for it.

Source: Steinke, Nasr and Jagielski 2023, Privacy Auditing with One (1) Training Run, arXiv 2305.08846
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from consilium.core.attack import Attack
from consilium.core.finding import Finding
from consilium.core.threat import CanaryView, ThreatModel
from consilium.core.update import Payload

from ._likelihood import log_likelihoods

__all__ = ["OneRunAudit"]


@dataclass(frozen=True)
class OneRunAudit(Attack[CanaryView]):
    """Guesses which of an audit's canaries were trained on, from the loss of one answer each."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[CanaryView]] = CanaryView

    def run(self, view: CanaryView, memory: Payload, generator: torch.Generator) -> Finding:
        """``score`` (m,), the higher the likelier in; the figures are the scorer's."""
        return Finding((), {"score": log_likelihoods(view.answer, view.canaries.x, view.canaries.y, view.task)})
