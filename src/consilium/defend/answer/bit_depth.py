"""Bit depth: the model sees each value of an input with few bits, so that small perturbations are rounded away.

    x -> round(x (2^b - 1)) / (2^b - 1)

It has no useful gradient, and attacks follow it straight through: what looks robust against an attack that follows the
zero gradient of rounding is not.

Source: Xu et al. 2018, Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks, arXiv 1704.01155
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from consilium.core.defence import AnswerDefence
from consilium.core.entry import check
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.threat import Aim

from ._squeezed import Behind, FollowedThrough

__all__ = ["BitDepth"]


@dataclass(frozen=True)
class BitDepth(AnswerDefence):
    """Rounds every value of an input to ``bits`` bits before the model sees it."""

    mitigates: ClassVar[tuple[Aim, ...]] = ("evasion",)

    bits: int = 4
    """Bits that a value keeps: 1 leaves black and white, 8 changes no picture of a byte a value."""

    def __post_init__(self) -> None:
        check(1 <= self.bits <= 8, "bits", self.bits, "1 to 8 bits")

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens, which are no quantities."""
        refuse_tokens(inputs, self, "it rounds numbers, and an id is no quantity")

    def squeezed(self, x: Tensor) -> Tensor:
        """Inputs ``(n, *shape)`` in [0, 1] as the model sees them."""
        levels = 2**self.bits - 1
        rounded: Tensor = (x * levels).round() / levels
        return rounded

    def around(self, model: nn.Module) -> nn.Module:
        """The model behind the rounding."""
        return Behind(self.squeezed, model)

    def surrogate(self, before: nn.Module | None) -> nn.Module | None:
        """The same answers, followed as if nothing were rounded."""
        return None if before is None else FollowedThrough(self.squeezed, before)
