"""Median smoothing: the model sees each pixel as the median of the window around it, channel by channel.

The image is reflected at its edges.  The median is differentiable almost everywhere, so attacks follow it exactly.

Source: Xu et al. 2018, Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks, arXiv 1704.01155
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.defence import AnswerDefence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.threat import Aim

__all__ = ["MedianSmoothing"]


@dataclass(frozen=True)
class MedianSmoothing(AnswerDefence):
    """Replaces each pixel by the median of a square window before the model sees the image."""

    mitigates: ClassVar[tuple[Aim, ...]] = ("evasion",)

    window: int = 3
    """Side of the window in pixels, odd."""

    def __post_init__(self) -> None:
        check(3 <= self.window <= 15 and self.window % 2 == 1, "window", self.window, "an odd number from 3 to 15")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse what is no image, and images that are not larger than half the window.

        Raises Refused: no images, or images that the window does not fit.
        """
        if len(shape) != 3 or min(shape[1:]) <= self.window // 2:
            raise Refused(
                f"median-smoothing needs images larger than {self.window // 2} pixels, and inputs have shape {shape}",
                remedy="leave it out, or use a smaller window",
            )

    def around(self, model: nn.Module) -> nn.Module:
        """The model behind the filter."""
        return _Filtered(self.window, model)

    def surrogate(self, before: nn.Module | None) -> nn.Module | None:
        """The same: the gradient of a median is that of the pixel it chose."""
        return None if before is None else _Filtered(self.window, before)


class _Filtered(nn.Module):
    def __init__(self, window: int, model: nn.Module) -> None:
        super().__init__()
        self.window, self.model = window, model

    def forward(self, x: Tensor) -> Tensor:
        half = self.window // 2
        padded = F.pad(x, (half, half, half, half), mode="reflect")
        windows = padded.unfold(2, self.window, 1).unfold(3, self.window, 1)
        logits: Tensor = self.model(windows.flatten(4).median(4).values)
        return logits
