"""JPEG: the model sees what is left of an image after lossy compression, which drops fine patterns.

It has no useful gradient, and attacks follow it straight through.  Images have one channel or three.

Source: Dziugaite et al. 2016, A Study of the Effect of JPG Compression on Adversarial Images, arXiv 1608.00853; Guo
et al. 2018, Countering Adversarial Images Using Input Transformations, arXiv 1711.00117
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from consilium.core.defence import AnswerDefence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.threat import Aim

from ._squeezed import Behind, FollowedThrough

__all__ = ["JPEG"]


@dataclass(frozen=True)
class JPEG(AnswerDefence):
    """Compresses an image with ``quality`` and reads it back before the model sees it."""

    mitigates: ClassVar[tuple[Aim, ...]] = ("evasion",)

    quality: int = 75
    """From 1, which keeps next to nothing, to 95."""

    def __post_init__(self) -> None:
        check(1 <= self.quality <= 95, "quality", self.quality, "1 to 95")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse what is no grey or colour image, and a Python without the library that reads pictures.

        Raises Refused: no images of one or three channels, or no Pillow.
        """
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise Refused(
                f"jpeg needs images of one channel or three, and the inputs have shape {shape}", remedy="leave it out"
            )
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            raise Refused("jpeg needs Pillow", remedy='install the extra: pip install "consilium[images]"') from error

    def squeezed(self, x: Tensor) -> Tensor:
        """Images ``(n, c, h, w)`` in [0, 1] as the model sees them."""
        return torch.stack([self._one(image) for image in x]).to(x)

    def _one(self, image: Tensor) -> Tensor:
        from PIL import Image

        levels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        stream = io.BytesIO()
        Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels).save(stream, "JPEG", quality=self.quality)
        read = np.asarray(Image.open(stream, formats=["JPEG"]), dtype=np.float32) / 255
        return torch.from_numpy(read.reshape(levels.shape)).permute(2, 0, 1)

    def around(self, model: nn.Module) -> nn.Module:
        """The model behind the compression."""
        return Behind(self.squeezed, model)

    def surrogate(self, before: nn.Module | None) -> nn.Module | None:
        """The same answers, followed as if nothing were compressed."""
        return None if before is None else FollowedThrough(self.squeezed, before)
