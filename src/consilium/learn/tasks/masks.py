"""A class for each pixel or voxel: what belongs to the organ, the lesion, the background.

    loss = mean over pixels of cross-entropy + 1 - mean over labels of (2 sum p g + 1) / (sum p + sum g + 1)

g is the truth and p the probability, per record; the second term (soft Dice) is over the foreground.  Masks exclude
each other (softmax; label 0 is the background) or are nested (sigmoid: the tumour's core within the whole tumour).  A
record is right where its mean Dice over the foreground labels reaches ``threshold``; what neither shows counts 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.core.task import Task
from consilium.data.checks.omissions import first
from consilium.data.checks.verify import first_wrong
from consilium.learn.rounding import rounding
from consilium.measure.tasks.masks import dice, mask_figures

from ._answers import accuracy, no_figures

__all__ = ["Masks"]

_COLLAPSED = 0.95


@dataclass(frozen=True)
class Masks(Task):
    """A label for each pixel of a picture, or each voxel of a volume.

    y: int64 ``(n, *spatial)``, 0 for the background, or ``(n, labels, *spatial)`` of 0 and 1 where they are ``nested``;
    answers: logits ``(n, labels, *spatial)``.  ``threshold`` is the mean Dice from which a record's answer is right.

    Source: Milletari et al. 2016, V-Net, arXiv 1606.04797 (soft Dice); Isensee et al. 2021, nnU-Net (the sum)
    """

    score: ClassVar[str] = "dice"

    threshold: float
    """Mean Dice from which a record's answer is right."""
    nested: bool = False
    """Whether the structures overlap, each with a mask of 0 and 1 of its own; else every place has one."""

    def __post_init__(self) -> None:
        check(0 < self.threshold <= 1, "threshold", self.threshold, "a Dice above 0, at most 1")

    def names(self, y: Tensor) -> tuple[str, ...]:
        """Their numbers, 0 being the background unless they are nested."""
        count = y.shape[1] if self.nested else max(2, int(y.max()) + 1)
        return tuple(f"label {number}" for number in range(count))

    def answer_shape(self, labels: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """A logit for each label and pixel.

        Raises Refused: inputs that are no pictures and no volumes.
        """
        if len(inputs) not in (3, 4):
            raise Refused(
                f"masks need pictures (channels, height, width) or volumes, and the inputs have shape {inputs}",
                remedy="choose another task, or data of pictures",
                where="task",
            )
        return (labels, *inputs[1:])

    def check_labels(self, y: Tensor, labels: Sequence[str], inputs: tuple[int, ...], where: str) -> None:
        """Refuse masks of another shape or with other labels.

        Raises Refused: a pixel without a label.
        """
        spatial = self.answer_shape(len(labels), inputs)[1:]
        wanted = (len(labels), *spatial) if self.nested else spatial
        if tuple(y.shape[1:]) != wanted:
            raise Refused(f"a mask has shape {tuple(y.shape[1:])}, not {wanted}", remedy="store it so", where=where)
        self._check_numbering(y, labels, where)
        most = 1 if self.nested else len(labels) - 1
        odd = ((y < 0) | (y > most)).flatten(1).any(1)
        if odd.any():
            pixels = y[odd][0]
            value = int(pixels[(pixels < 0) | (pixels > most)][0])
            raise Refused(
                f"{first_wrong(odd)} a pixel outside 0..{most} (such as {value})",
                remedy="store 0 and 1 for each label" if self.nested else "number the labels from 0, the background",
                where=where,
            )

    def _check_numbering(self, y: Tensor, labels: Sequence[str], where: str) -> None:
        """Refuse numbers with gaps where nobody names them: 0 and 255 are two labels and not 256."""
        present = torch.unique(y).tolist()
        if self.nested or tuple(labels) != self.names(y) or len(present) in (1, present[-1] + 1) or present[0] < 0:
            return
        shown = ", ".join(map(str, present[:5])) + (", ..." if len(present) > 5 else "")
        raise Refused(
            f"the pixels of masks hold {shown}: as labels these would be 0 to {present[-1]}, with gaps",
            remedy=f"number the labels 0, 1, ... (numpy.searchsorted([{shown}], y)), or name all of them by classes",
            where=where,
        )

    def check_variety(self, y: Tensor, labels: Sequence[str], where: str) -> tuple[str, ...]:
        """A caution by name for labels that no pixel bears.

        Raises Refused: every pixel of every mask bears one label.
        """
        planes = [y[:, k] != 0 if self.nested else y == k for k in range(len(labels))]
        there = [bool(plane.any()) for plane in planes]
        if not any(plane_there and not bool(plane.all()) for plane_there, plane in zip(there, planes, strict=True)):
            reason = f"all pixels of the {len(y)} masks are alike: there is nothing to tell apart"
            raise Refused(reason, remedy="give masks in which a part is marked", where=where)
        absent = [name for name, some in zip(labels, there, strict=True) if not some]
        if not absent:
            return ()
        return (f"no pixel of any mask bears {', '.join(map(repr, first(absent)))}: no figure speaks of it",)

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, the mean over pixels, and 1 - soft Dice."""
        return self._cross_entropy(answers, y).flatten(1).mean(1) + 1 - self._soft_dice(answers, y)

    def predicted(self, answers: Tensor) -> Tensor:
        """The label of each pixel; for nested ones 1 where the probability is above one half."""
        return (answers > 0).long() if self.nested else answers.argmax(1)

    def right(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where the mean Dice reaches the threshold."""
        return self._reaches(self.predicted(answers), y, answers.shape[1]) & ~answers.isnan().flatten(1).any(1)

    def margin(self, answers: Tensor, y: Tensor) -> Tensor:
        """The threshold less the soft Dice."""
        return self.threshold - self._soft_dice(answers, y)

    def surely_wrong(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where the Dice is too low even if every pixel that is wrong by no more than rounding were right."""
        answers = answers.detach()
        leads = answers * (1 - 2 * y) if self.nested else self._leads(answers, y)
        doubtful = leads <= rounding(answers).view(-1, *(1,) * (leads.dim() - 1))
        kindest = torch.where(doubtful, y, self.predicted(answers))
        return ~self._reaches(kindest, y, answers.shape[1]) & ~answers.isnan().flatten(1).any(1)

    def strata(self, y: Tensor) -> Tensor:
        """Which foreground labels a record shows, numbered."""
        if not len(y):
            return torch.zeros(0, dtype=torch.long)
        shown = self._planes(y, max(2, int(y.max()) + 1)).flatten(2).any(2)
        kinds: Tensor = torch.unique(shown, dim=0, return_inverse=True)[1]
        return kinds

    def most_right(self, y: Tensor) -> int:
        """By one label everywhere, or each pixel's commonest label: the best of these."""
        if not len(y):
            return 0
        labels = y.shape[1] if self.nested else max(2, int(y.max()) + 1)
        values = 2 if self.nested else labels
        commonest = torch.stack([(y == value).sum(0) for value in range(values)]).argmax(0)
        constants = [torch.full_like(y[0], value) for value in range(values)] + [commonest]
        return max(int(self._reaches(constant.expand_as(y), y, labels).sum()) for constant in constants)

    def drawn(self, count: int, labels: int, inputs: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Every pixel at random."""
        shape = (labels, *inputs[1:]) if self.nested else inputs[1:]
        return torch.randint(2 if self.nested else labels, (count, *shape), generator=generator)

    def mistaken(self, y: Tensor, labels: int, generator: torch.Generator) -> Tensor:
        """Every label turned into another, the same way in the whole record."""
        if self.nested:
            return 1 - y
        shift = torch.randint(1, labels, (len(y),), generator=generator)
        return (y + shift.view(-1, *(1,) * (y.dim() - 1))) % labels

    def measures(
        self, answers: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
    ) -> tuple[Measure, ...]:
        """Accuracy (Dice at the threshold); Dice and HD95 per patient, of each label too; empty cases; Brier score."""
        if undefined := no_figures(answers, self.score):
            return undefined
        answers, y = answers.detach().cpu(), y.cpu()
        foreground = list(labels) if self.nested else list(labels)[1:]
        shown, true = (self._planes(mask, len(labels)).bool() for mask in (self.predicted(answers), y))
        figures = mask_figures(shown, true, units.cpu(), foreground, stream)
        right = self._reaches(self.predicted(answers), y, len(labels))
        return (accuracy(right, units, self.most_right(y)), *figures)

    def stored(self, answers: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The mean Dice of each record over its foreground labels: ``dice (n,)``."""
        planes = (self._planes(mask, answers.shape[1]).bool() for mask in (self.predicted(answers), y))
        return {"dice": dice(*planes).mean(1)}

    def is_collapsed(self, answers: Tensor) -> bool:
        """More than 95 % of the masks show nothing, or one label everywhere."""
        if not len(answers):
            return False
        if bool(answers.isnan().any()):
            return True
        flat = self.predicted(answers).flatten(1)
        return int((flat == flat[:, :1]).all(1).sum()) > _COLLAPSED * len(flat)

    def _cross_entropy(self, answers: Tensor, y: Tensor) -> Tensor:
        if self.nested:
            return F.binary_cross_entropy_with_logits(answers, y.to(answers.dtype), reduction="none")
        return F.cross_entropy(answers, y, reduction="none")

    def _soft_dice(self, answers: Tensor, y: Tensor) -> Tensor:
        """``(n,)``."""
        p = answers.sigmoid() if self.nested else answers.softmax(1)[:, 1:]
        g = self._planes(y, answers.shape[1]).to(p.dtype)
        both, either = (p * g).flatten(2).sum(2), (p + g).flatten(2).sum(2)
        return ((2 * both + 1) / (either + 1)).mean(1)

    def _planes(self, y: Tensor, labels: int) -> Tensor:
        """A plane of 0 and 1 for each foreground label, ``(n, foreground, *spatial)``."""
        if self.nested:
            return y
        return torch.stack([y == label for label in range(1, labels)], 1).to(y.dtype)

    def _reaches(self, shown: Tensor, y: Tensor, labels: int) -> Tensor:
        planes = (self._planes(mask, labels).bool() for mask in (shown, y))
        return dice(*planes).mean(1) >= self.threshold - 1e-9

    def _leads(self, answers: Tensor, y: Tensor) -> Tensor:
        """The lead of the best wrong label over the right one at each pixel, ``(n, *spatial)``."""
        right = answers.gather(1, y[:, None])[:, 0]
        return answers.scatter(1, y[:, None], -math.inf).amax(1) - right
