"""Any ``torch.nn.Module`` of the user's, by import path.

Importing runs the user's code, so a study must set ``allow-code = true`` and :func:`consilium.load`
``allow_code=True``.
Source: none; an adapter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from consilium.core.errors import Refused
from consilium.core.inputs import random_inputs
from consilium.learn.architecture import Architecture
from consilium.learn.user_code.user_object import first_line, user_object

__all__ = ["Module"]


@dataclass(frozen=True)
class Module(Architecture):
    """A class or function ``package.module:Name`` that returns a module from inputs in [0, 1] to logits."""

    path: str
    """Your class or function as module:Name, looked for in the current folder first."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """What your class or function is called with, besides what Consilium gives it."""
    allow_code: bool = False
    """Consent to run the code of `path`; without it the study is refused."""

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The module for numbers in [0, 1]."""
        return self.build_for(0, shape, classes)

    def build_for(self, tokens: int, shape: tuple[int, ...], classes: int) -> nn.Module:
        """``Name(**arguments)``; the shapes are the user's business and are checked before training.

        Raises Refused: ``allow-code`` is not set, or the call fails or returns no torch module.
        """
        if not self.allow_code:
            raise Refused(
                f"model {self.path!r} would run code that is not Consilium's",
                remedy="set model.allow-code = true if you trust it",
                where="model.allow-code",
            )
        kind = user_object(self.path, "model.path")
        try:
            module = kind(**self.arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # anyone's code
            raise Refused(
                f"the model cannot be built: {first_line(error)} (in {self.path})",
                remedy="check model.arguments: Name(**arguments) must give a module",
                where="model",
            ) from error
        if not isinstance(module, nn.Module):
            raise Refused(
                f"{self.path} returned a {type(module).__name__}, not a torch.nn.Module",
                remedy="name a class of modules, or a function that returns one",
                where="model.path",
            )
        return self._materialised(module, tokens, shape)

    def _materialised(self, module: nn.Module, tokens: int, shape: tuple[int, ...]) -> nn.Module:
        """Lazy layers take their shapes, and their first weights, from one input as the data have it."""
        if not any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
            return module
        module.eval()
        try:
            with torch.no_grad():
                module(random_inputs(1, shape, tokens))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # anyone's code
            raise Refused(
                f"the lazy layers of {self.path} cannot read an input of shape {shape}: {first_line(error)}",
                remedy="give its layers their sizes, or choose a model for such inputs",
                where="model",
            ) from error
        return module.train()
