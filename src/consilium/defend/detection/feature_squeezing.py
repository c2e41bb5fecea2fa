"""Feature squeezing: an input is suspect where the model answers otherwise once unneeded detail is taken out of it.

    suspicion(x) = max over squeezers s of  || softmax f(x) - softmax f(s(x)) ||_1        0 to 2

Squeezers: rounding to a few bits, and a median filter of pictures.  The paper's third one, non-local means, is left
out: it costs most, and adds least on small pictures.  Attackers follow the rounding straight through (BPDA) and the
median exactly.

Source: Xu et al. 2018, Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks, arXiv 1704.01155
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.detection import Detecting
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._fitted import FittedDetector

__all__ = ["FeatureSqueezing"]


@dataclass(frozen=True)
class FeatureSqueezing(FittedDetector):
    """Rejects an input whose answer changes when it is rounded to few bits or median-filtered."""

    splits: ClassVar[bool] = False

    bits: int = 4
    """Bits of a value that are kept, from 1 to 8."""
    window: int = 3
    """Side of the median filter in pixels, odd; 0 for none, as where the inputs are no pictures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.bits <= 8, "bits", self.bits, "1 to 8 bits")
        allowed = self.window == 0 or (3 <= self.window <= 15 and self.window % 2 == 1)
        check(allowed, "window", self.window, "0, or an odd number from 3 to 15")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse a filter for what is no picture, or for one that is not larger than half the window.

        Raises Refused: the window does not fit the inputs.
        """
        if self.window and (len(shape) != 3 or min(shape[1:]) <= self.window // 2):
            raise Refused(
                f"feature-squeezing has a window of {self.window} pixels, and the inputs have shape {shape}",
                remedy="use window = 0, which rounds alone, or a smaller one",
            )

    def fit(self, model: nn.Module, records: Records, stream: Stream, task: Task) -> dict[str, Tensor]:
        """Nothing but the threshold."""
        return {}

    def detecting(self, model: nn.Module, fitted: Mapping[str, Tensor]) -> Detecting:
        """``model``, asked again behind each squeezer."""
        return _Squeezed(model, fitted, self.bits, self.window)


class _Squeezed(Detecting):
    def __init__(self, model: nn.Module, fitted: Mapping[str, Tensor], bits: int, window: int) -> None:
        super().__init__(model, fitted)
        self.bits, self.window = bits, window

    def suspicion(self, x: Tensor) -> Tensor:
        plain = self.model(x).softmax(1)
        squeezed = [_rounded(x, self.bits)] + ([_filtered(x, self.window)] if self.window else [])
        apart = torch.stack([(plain - self.model(one).softmax(1)).abs().sum(1) for one in squeezed])
        return apart.amax(0)


def _rounded(x: Tensor, bits: int) -> Tensor:
    """Rounded forward, the identity backward."""
    levels = 2**bits - 1
    rounded: Tensor = x + ((x * levels).round() / levels - x).detach()
    return rounded


def _filtered(x: Tensor, window: int) -> Tensor:
    half = window // 2
    padded = F.pad(x, (half, half, half, half), mode="reflect")
    windows: Tensor = padded.unfold(2, window, 1).unfold(3, window, 1).flatten(4).median(4).values
    return windows
