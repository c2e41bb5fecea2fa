"""What builds a module: an entry of ``learn/models``.

Inputs are raw, in [0, 1]; each architecture opens with :class:`Normalise`, whose constants are public.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from consilium.core.entry import Entry
from consilium.core.errors import Refused

__all__ = ["Architecture", "Normalise", "require_image"]


@dataclass(frozen=True)
class Architecture(Entry, ABC):
    """An untrained module for inputs of one shape."""

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from x ``(n, *shape)`` in [0, 1] to logits ``(n, classes)``; reads torch's global generator."""

    def build_for(self, tokens: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The module for inputs of ``shape``: numbers in [0, 1], or ids below ``tokens`` where that is not 0.

        Raises Refused: the inputs are tokens and the model reads numbers, or the other way round.
        """
        if tokens:
            raise Refused(
                f"model {self.kind()} reads numbers in [0, 1], and these records are words: {shape[-1]} ids below "
                f"{tokens} each",
                remedy='use model.kind = "text-cnn", "gru" or "bag-of-embeddings"',
                where="model.kind",
            )
        return self.build(shape, classes)


class Normalise(nn.Module):
    """x in [0, 1] -> (x - 0.5) / 0.5: public constants, so that they cost no privacy (LAWS 9)."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, in [-1, 1]."""
        return (x - 0.5) * 2.0


def require_image(shape: tuple[int, ...], kind: str) -> None:
    """Refuse data that is not images for a convolutional model.

    Raises Refused: ``shape`` is not (channels, height, width).
    """
    if len(shape) != 3:
        raise Refused(
            f"model {kind} needs images (channels, height, width) and the data have shape {shape}",
            remedy='use model.kind = "mlp" or "logistic" for tables',
            where="model.kind",
        )
