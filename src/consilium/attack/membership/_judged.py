"""From scores to a finding, as every attack on membership ends."""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.finding import Finding
from consilium.core.random import Stream
from consilium.core.threat import QueryView
from consilium.measure.clustered import unit_notes
from consilium.measure.membership import membership

__all__ = ["judged"]

_TIED = (
    "Every judged record has the same score: with these parameters the attack tells no record from another, whatever "
    "the model, and its figures say nothing of leakage."
)


def judged(scores: Tensor, view: QueryView, generator: torch.Generator, *notes: str) -> Finding:
    """The figures of ``scores (n,)``, computed on the candidates whose membership the adversary does not know."""
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    measures = membership(scores, view.member, Stream(seed), known=view.known, units=view.candidates.units)
    notes = (*notes, *unit_notes(view.candidates.units[~view.known.cpu()], "judged"))
    if len(torch.unique(scores[~view.known])) == 1:
        notes = (*notes, _TIED)
    return Finding(measures, {"score": scores, "member": view.member, "known": view.known}, notes=notes)
