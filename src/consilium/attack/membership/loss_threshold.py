"""Membership by loss: what a model has learned from, it answers with a smaller loss.

    score(x, y) = log p(y | x) = -CE,   member if score >= t,   t learned on the calibration half

Probabilities come from the logits as they are answered; one that was rounded to 0 scores at the floor, the log of the
smallest float32 (about -87), so that every score is finite.

Source: Yeom et al. 2018, Privacy Risk in Machine Learning, arXiv 1709.01604.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from consilium.core.attack import Attack
from consilium.core.finding import Finding
from consilium.core.threat import QueryView, ThreatModel, View
from consilium.core.update import Payload

from ._judged import judged

__all__ = ["LossThreshold"]

_BATCH = 512
_FLOOR = math.log(torch.finfo(torch.float32).tiny)


@dataclass(frozen=True)
class LossThreshold(Attack):
    """Tells members from non-members by the loss of one answer each."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[View]] = QueryView

    def run(self, view: View, memory: Payload, generator: torch.Generator) -> Finding:
        """One query per candidate.  Scores: ``score``, ``member``, ``known`` (n,)."""
        view = cast(QueryView, view)  # __call__ has required it
        scores = torch.cat([_scores(view, rows) for rows in _batches(len(view.candidates))])
        floored = int((scores <= _FLOOR).sum())
        notes = (f"{floored} scores lie at the floor {_FLOOR:.1f} (probability answered as 0)",) if floored else ()
        return judged(scores, view, generator, *notes)


def _scores(view: QueryView, rows: slice) -> Tensor:
    x, y = view.candidates.x[rows], view.candidates.y[rows]
    log_p = torch.log_softmax(view.ask(x).double(), dim=1).gather(1, y[:, None])[:, 0]
    return torch.nan_to_num(log_p, nan=_FLOOR).clamp_min(_FLOOR).cpu()


def _batches(n: int) -> Iterator[slice]:
    return (slice(first, first + _BATCH) for first in range(0, max(1, n), _BATCH))
