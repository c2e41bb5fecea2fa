"""Augmentation multiplicity: K random views of every record, whose losses are averaged BEFORE its gradient is clipped.

    g_i = grad of (1/K) sum_k loss(view_k(x_i), y_i);   then clip, sum, noise as ever

A view is flipped and shifted by a draw that looks at no data, so all K views of a record are that one record: whatever
they are, it moves the clipped sum by at most C, and epsilon is what it was.

Source: De et al. 2022, Unlocking High-Accuracy Differentially Private Image Classification through Scale, arXiv
2204.13650, section 3.3 (augmult).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.task import Task

__all__ = ["Augmented", "check_viewable", "units_of_rows", "views"]


@dataclass(frozen=True)
class Augmented(Objective):
    """``inner``, evaluated on ``copies`` views of each record; the batch's ``record`` maps each row to its record."""

    inner: Objective
    copies: int
    flip: bool
    shift: int

    @property
    def task(self) -> Task:
        """That of ``inner``."""
        return self.inner.task

    def prepare(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
        """``copies`` rows for each record, one after the other."""
        record = torch.arange(len(x), device=x.device).repeat_interleave(self.copies)
        augmented = views(x[record], self.flip, self.shift, generator)
        return {**self.inner.prepare(predict, augmented, y[record], generator), "record": record}

    def for_round(self, params: Tensor, predict: Predict) -> Objective:
        """With ``inner`` as it is in this round."""
        inner = self.inner.for_round(params, predict)
        return self if inner is self.inner else replace(self, inner=inner)

    def in_round(self, number: int) -> Objective:
        """With ``inner`` as it is in round ``number``."""
        inner = self.inner.in_round(number)
        return self if inner is self.inner else replace(self, inner=inner)

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        """Those of ``inner``, one a row ``(n * copies,)``."""
        return self.inner.losses(predict, batch)


def check_viewable(shape: tuple[int, ...], shift: int) -> None:
    """Refuse inputs of ``shape`` that are no images ``(c, h, w)``, or are not larger than ``shift``.

    Raises Refused: no images, or images not larger than ``shift``.
    """
    if len(shape) != 3 or shift >= min(shape[1:]):
        raise Refused(
            f"views are of images larger than shift = {shift}, and the inputs have shape {shape}",
            remedy="leave out augmentation, or use a smaller shift",
        )


def units_of_rows(batch: Batch, units: Tensor | None) -> Tensor | None:
    """Whose row each is: ``units (n,)`` of the records, or the records themselves; None if every row is a record."""
    record = batch.get("record")
    if record is None:
        return units
    return record if units is None else units[record]


def views(x: Tensor, flip: bool, shift: int, generator: torch.Generator) -> Tensor:
    """Each image ``(n, c, h, w)`` mirrored left to right by a coin, and moved by up to ``shift`` pixels either way.

    Pixels that enter at an edge are the image reflected there.
    """
    check_viewable(tuple(x.shape[1:]), shift)
    n, _, height, width = x.shape

    def seen(side: int) -> Tensor:
        moved = torch.randint(-shift, shift + 1, (n, 1), generator=generator) if shift else torch.zeros(n, 1).long()
        at = (torch.arange(side) + moved).abs()
        return side - 1 - (side - 1 - at).abs()

    down, across = seen(height), seen(width)
    if flip:
        coins = torch.rand(n, 1, generator=generator) < 0.5
        across = torch.where(coins, width - 1 - across, across)
    down, across = down.to(x.device), across.to(x.device)
    moved = x.gather(2, down[:, None, :, None].expand(x.shape))
    return moved.gather(3, across[:, None, None, :].expand(x.shape))
