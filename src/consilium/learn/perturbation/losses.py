"""What an attack climbs: a loss of the logits, for each example.

    cross-entropy  -log p_y                                     targeted  log p_t
    margin         max_{j != y} z_j - z_y                       targeted  z_t - max_{j != t} z_j
    DLR            (max_{j != y} z_j - z_y) / (z_(1) - z_(3))   targeted  (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)

z_(k) is the k-th largest logit.  The gradient of the cross-entropy vanishes where a model is sure of itself, that of
the margin does not, and DLR is the same for logits of any scale.

Source: Carlini and Wagner 2017, arXiv 1608.04644 (margin: f6); Croce and Hein 2020, arXiv 2003.01690 (DLR, eq. 6 and 8)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from consilium.core.errors import Refused

from .ball import tiny

__all__ = [
    "DLR",
    "LOSSES",
    "AttackLoss",
    "ClassLossName",
    "CrossEntropyLoss",
    "LeadLoss",
    "LossName",
    "MarginLoss",
    "Minimised",
    "likeliest_wrong",
    "margin",
]

LossName = Literal["cross-entropy", "margin"]
"""The losses that every task has."""
ClassLossName = Literal["cross-entropy", "margin", "dlr"]
"""Those of classes."""


class AttackLoss(ABC):
    """A loss ``(n,)`` of logits ``(n, classes)``, larger where the attack is nearer to its goal."""

    @abstractmethod
    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """Away from the right class ``y (n,)``."""

    @abstractmethod
    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """From ``y (n,)`` towards the class ``target (n,)``."""


@dataclass(frozen=True)
class CrossEntropyLoss(AttackLoss):
    """The negative logarithm of the right class's probability."""

    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """-log p_y."""
        return F.cross_entropy(logits, y, reduction="none")

    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """log p_t."""
        return -F.cross_entropy(logits, target, reduction="none")


@dataclass(frozen=True)
class MarginLoss(AttackLoss):
    """The lead of the best wrong class over the right one."""

    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """max_{j != y} z_j - z_y."""
        return margin(logits, y)

    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """z_t - max_{j != t} z_j."""
        return -margin(logits, target)


@dataclass(frozen=True)
class LeadLoss(AttackLoss):
    """The margin; towards a target, the lead of that class over the right one alone."""

    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """max_{j != y} z_j - z_y."""
        return margin(logits, y)

    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """z_t - z_y."""
        return _at(logits, target) - _at(logits, y)


@dataclass(frozen=True)
class DLR(AttackLoss):
    """The difference of logits ratio, which no scaling or shift of the logits changes.

    Raises ``Refused`` for fewer than three classes, or four where there is a target.
    """

    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """(max_{j != y} z_j - z_y) / (z_(1) - z_(3))."""
        falling = _falling(logits, 3)
        return margin(logits, y) / (falling[:, 0] - falling[:, 2]).clamp_min(tiny(logits))

    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)."""
        falling = _falling(logits, 4)
        scale = falling[:, 0] - (falling[:, 2] + falling[:, 3]) / 2
        return (_at(logits, target) - _at(logits, y)) / scale.clamp_min(tiny(logits))


@dataclass(frozen=True)
class Minimised(AttackLoss):
    """The negative of another loss: climbing it makes an input easier for the model, not harder."""

    loss: AttackLoss

    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """Towards the right class."""
        return -self.loss.untargeted(logits, y)

    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Away from the target."""
        return -self.loss.targeted(logits, y, target)


LOSSES: Mapping[ClassLossName, AttackLoss] = {"cross-entropy": CrossEntropyLoss(), "margin": MarginLoss(), "dlr": DLR()}


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """By how much the best other answer leads over class ``y (n,)``: max_{j != y} z_j - z_y, ``(n,)``."""
    other = logits.scatter(1, y[:, None], -math.inf).amax(1)
    return other - _at(logits, y)


def likeliest_wrong(logits: Tensor, y: Tensor, number: int) -> Tensor:
    """The classes of the ``number`` largest logits besides that of ``y (n,)``, from the largest on: ``(n, number)``.

    All of them where there are fewer.
    """
    others = logits.scatter(1, y[:, None], -math.inf)
    return others.topk(min(number, logits.shape[1] - 1), dim=1).indices


def _at(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]


def _falling(logits: Tensor, needed: int) -> Tensor:
    """Logits from the largest on, at least ``needed`` of them."""
    if logits.shape[1] < needed:
        raise Refused(f"DLR needs {needed} classes and there are {logits.shape[1]}", remedy="use the margin loss")
    return logits.sort(dim=1, descending=True).values
