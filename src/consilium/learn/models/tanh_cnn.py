"""The small network with bounded activations that DP-SGD learns best from scratch on 28 x 28 images.

    normalise -> conv 8x8 / 2 -> tanh -> max-pool 2x2 / 1
    -> conv 4x4 / 2 -> tanh -> max-pool 2x2 / 1 -> linear 32 -> tanh -> linear

With ReLU activations and gradients grow during training, and more of each gradient is clipped away; with tanh they
do not.

Source: Papernot et al. 2021, Tempered Sigmoid Activations for Deep Learning with Differential Privacy, arXiv
2007.14191; as in Tramer & Boneh 2021, arXiv 2011.11660.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.learn.architecture import Architecture, Normalise, require_image

__all__ = ["TanhCNN"]


@dataclass(frozen=True)
class TanhCNN(Architecture):
    """Two strided convolutions and two linear layers, tanh between them; no normalisation, so it is lawful under DP."""

    width: int = 16
    """Channels of the first convolution."""
    hidden: int = 32
    """Units of a hidden layer."""

    def __post_init__(self) -> None:
        check(1 <= self.width <= 4096, "width", self.width, "1 to 4096 channels")
        check(1 <= self.hidden <= 65536, "hidden", self.hidden, "1 to 65536 units")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Channels ``width`` then 2 ``width``; 26010 parameters for one channel of 28 x 28 and 10 classes.

        Raises Refused: images smaller than 16 x 16.
        """
        require_image(shape, self.kind())
        if min(shape[1:]) < 16:
            raise Refused(
                f"images of {shape[1]} x {shape[2]} are too small for model {self.kind()}",
                remedy='use images of 16 x 16 at least, or model.kind = "cnn"',
                where="model.kind",
            )
        height, width = (_places(side) for side in shape[1:])
        return nn.Sequential(
            Normalise(),
            nn.Conv2d(shape[0], self.width, 8, stride=2, padding=2),
            nn.Tanh(),
            nn.MaxPool2d(2, stride=1),
            nn.Conv2d(self.width, 2 * self.width, 4, stride=2),
            nn.Tanh(),
            nn.MaxPool2d(2, stride=1),
            nn.Flatten(),
            nn.Linear(2 * self.width * height * width, self.hidden),
            nn.Tanh(),
            nn.Linear(self.hidden, classes),
        )


def _places(side: int) -> int:
    """What the convolutions and poolings leave of ``side`` pixels."""
    first = (side + 2 * 2 - 8) // 2 + 1 - 1
    return (first - 4) // 2 + 1 - 1
