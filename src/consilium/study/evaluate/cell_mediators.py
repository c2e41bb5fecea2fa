"""The mediators of one cell: its model on the very records that membership attacks ask about (LAWS 17, 22)."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.measure.mediators import mediators, no_mediators

from .evaluate import answers
from .views import candidates

__all__ = ["cell_mediators"]

_GAPS = ("generalisation_gap", "generalisation_gap_loss")


def cell_mediators(
    module: nn.Module, data: Consortium, sites: tuple[str, ...], seed: int, caveat: str = ""
) -> tuple[Measure, ...]:
    """Of ``module`` as it answers, on members and non-members of the sites ``sites``; undefined where they are away.

    The ``caveat`` stands as the reason of both gaps.
    """
    if data.declared:
        return no_mediators("the sites' records stay where they are, and are not asked about here")
    if not sites:
        return no_mediators("no site that is honest in every infection took part in the training")
    stream = Stream(seed)
    records, member, _ = candidates(data, sites, stream.child("candidates"))
    measures = mediators(
        answers(module, records.x), records.y, member, records.units, data.task, stream.child("mediators")
    )
    return tuple(replace(m, reason=caveat) if m.name in _GAPS and m.value is not None else m for m in measures)
