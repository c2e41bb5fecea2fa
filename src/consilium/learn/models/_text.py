"""What models of words share: which positions hold a word, and that they read tokens alone.

    x (n, length) int64        0 is padding, which is masked wherever it could change an answer

Padding is masked in ``forward`` and not by a row of zeros: noise and merges move that row as they move any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.inputs import PADDING
from consilium.learn.architecture import Architecture

__all__ = ["TextArchitecture", "word_mask", "word_vectors"]


@dataclass(frozen=True)
class TextArchitecture(Architecture, ABC):
    """An untrained module for tokens."""

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Always refused: numbers in [0, 1] are no words.

        Raises Refused: always.
        """
        raise Refused(
            f"model {self.kind()} reads words (tokens), and the data are numbers of shape {shape}",
            remedy='use model.kind = "cnn" for images, "mlp" or "logistic" for tables, or data of words',
            where="model.kind",
        )

    def build_for(self, tokens: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The module for ids below ``tokens``; refused where there are none."""
        return self.build_text(shape[-1], tokens, classes) if tokens else self.build(shape, classes)

    @abstractmethod
    def build_text(self, length: int, tokens: int, classes: int) -> nn.Module:
        """A module from x int64 ``(n, length)`` to logits ``(n, classes)``; reads torch's global generator."""


def word_vectors(tokens: int, width: int) -> nn.Embedding:
    """Random first vectors of length about 1: of the scale of the other layers, so that pruning weighs them alike."""
    embedding = nn.Embedding(tokens, width)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    return embedding


def word_mask(x: Tensor, like: Tensor) -> Tensor:
    """1 where ``x (n, length)`` holds a word and 0 where it is padding, ``(n, length, 1)`` of the type of ``like``."""
    return (x != PADDING).to(like.dtype)[..., None]
