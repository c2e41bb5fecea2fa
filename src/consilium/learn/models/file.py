"""A model that was trained elsewhere: stored weights and the architecture that they belong to.

A study that names one is of a trained model: nothing is trained.  Weights are safetensors; pickle is never read.
Source: none; an adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from consilium.core.errors import Refused
from consilium.learn.architecture import Architecture

__all__ = ["File"]


@dataclass(frozen=True)
class File(Architecture):
    """Weights in a safetensors file, with the architecture that reads them."""

    path: str
    """The weights: a safetensors file."""
    architecture: dict[str, Any]
    """The table of the model that the weights belong to, as `model` would have it."""

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Always refused: :mod:`consilium.study.build.pretrained` reads the file, since only a study has the data.

        Raises Refused: always.
        """
        raise Refused("an existing model is not built but read", where="model.kind")
