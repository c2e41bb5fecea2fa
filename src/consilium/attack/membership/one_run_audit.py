"""The one-run audit's adversary: which canaries were trained on, by the loss of one answer each.

    score(x, y) = log p(y | x) = -CE;   the highest scores are guessed to be in, the lowest to be out

It sees the canaries and the released model's answers, never the coins; who guessed right, and what lower bound of
epsilon follows, is worked out by the study, which holds them.  A study needs the table ``[audit]`` for it.

Source: Steinke, Nasr and Jagielski 2023, Privacy Auditing with One (1) Training Run, arXiv 2305.08846
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from consilium.core.attack import Attack
from consilium.core.finding import Finding
from consilium.core.threat import CanaryView, ThreatModel, View
from consilium.core.update import Payload

__all__ = ["OneRunAudit"]

_BATCH = 512
_FLOOR = math.log(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class OneRunAudit(Attack):
    """Guesses which of an audit's canaries were trained on, from the loss of one answer each."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[View]] = CanaryView

    def run(self, view: View, memory: Payload, generator: torch.Generator) -> Finding:
        """``score`` (m,), the higher the likelier in; the figures are the scorer's."""
        view = cast(CanaryView, view)  # __call__ has required it
        x, y = view.canaries.x, view.canaries.y
        with torch.no_grad():
            answered = [view.answer(x[first : first + _BATCH]) for first in range(0, max(1, len(x)), _BATCH)]
        return Finding((), {"score": _log_likelihood(torch.cat(answered), y)})


def _log_likelihood(logits: Tensor, y: Tensor) -> Tensor:
    """Of each label ``(m,)``; a probability answered as 0 scores at the floor, the log of the least float32."""
    log_p = torch.log_softmax(logits.double().cpu(), dim=1).gather(1, y.cpu()[:, None])[:, 0]
    return torch.nan_to_num(log_p, nan=_FLOOR).clamp_min(_FLOOR)
