"""Augmentation multiplicity: every record counts by the mean over several random views of it, in every step.

Not a defence by itself: it makes DP-SGD more accurate at the same epsilon, and it works without it too.  Name it
beside dp-sgd: ``privacy = [[{ kind = "dp-sgd", ... }, { kind = "augmentation" }]]``.

Source: De et al. 2022, Unlocking High-Accuracy Differentially Private Image Classification through Scale, arXiv
2204.13650
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import TrainingDefence
from consilium.core.entry import check
from consilium.core.errors import Refused, Unlawful
from consilium.core.gradient import Objective
from consilium.learn.augment import Augmented, check_viewable

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation(TrainingDefence):
    """Averages a record's loss over random views of it (mirrored, shifted) before its gradient is clipped.

    ``copies`` K views a record and step, which cost K times the work; ``flip``: mirrored left to right by a coin (leave
    it out where left and right differ); ``shift``: moved by up to so many pixels.
    """

    copies: int = 8
    """Views of a record in each step, whose gradients are averaged; the work grows as much."""
    flip: bool = True
    """Whether a view is mirrored left to right by a coin; not where left and right differ."""
    shift: int = 2
    """Most pixels that a view is moved by, in each direction."""

    def __post_init__(self) -> None:
        check(1 <= self.copies <= 256, "copies", self.copies, "1 to 256 views of a record")
        check(0 <= self.shift <= 64, "shift", self.shift, "0 to 64 pixels, fewer than the image has")
        if not self.flip and self.shift == 0:
            raise Refused("views that are neither mirrored nor shifted are all alike", remedy="set flip or shift")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse what is no image, and images that are not larger than ``shift``."""
        check_viewable(shape, self.shift)

    def objective(self, objective: Objective) -> Objective:
        """The same losses, on views.  Wrapping twice would multiply the copies and is refused.

        Raises Unlawful: the defence is applied already.
        """
        if isinstance(objective, Augmented):
            raise Unlawful("augmentation is applied twice, and its copies would multiply", remedy="name it once")
        return Augmented(objective, self.copies, self.flip, self.shift)
