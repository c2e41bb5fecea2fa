"""Any ``torch.nn.Module`` of the user's, by import path.

Importing runs the user's code, so a study must set ``allow-code = true`` and :func:`consilium.load`
``allow_code=True``.
Source: none; an adapter.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.learn.architecture import Architecture

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
        """``Name(**arguments)``; the shapes are the user's business and are checked before training.

        Raises Refused: ``allow-code`` is not set, or the call fails or returns no torch module.
        """
        if not self.allow_code:
            raise Refused(
                f"model {self.path!r} would run code that is not Consilium's",
                remedy="set model.allow-code = true if you trust it",
                where="model.allow-code",
            )
        kind = self._import()
        try:
            module = kind(**self.arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # anyone's code
            raise Refused(
                f"the model cannot be built: {_line(error)} (in {self.path})",
                remedy="check model.arguments: Name(**arguments) must give a module",
                where="model",
            ) from error
        if not isinstance(module, nn.Module):
            raise Refused(
                f"{self.path} returned a {type(module).__name__}, not a torch.nn.Module",
                remedy="name a class of modules, or a function that returns one",
                where="model.path",
            )
        return self._materialised(module, shape)

    def _import(self) -> Any:
        """Looked for in the current folder first, as ``python -m`` does.

        Numbers that the file draws from torch when it is imported have a stream of their own: the same numbers in every
        process, and those of the class are the same whether the file was imported before or not.
        """
        module, _, name = self.path.partition(":")
        here = str(Path.cwd())
        sys.path.insert(0, here)
        try:
            with scoped(Stream(0, ("import", module))):
                return getattr(importlib.import_module(module), name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # anyone's code
            known = isinstance(error, ImportError | AttributeError | ValueError)
            raise Refused(
                f"cannot import {self.path!r}: {error if known else _line(error)}",
                remedy='give "package.module:Name" of a file that Python can import, and run in its folder, '
                "or set PYTHONPATH",
                where="model.path",
            ) from error
        finally:
            if here in sys.path:  # the user's code may have changed it
                sys.path.remove(here)

    def _materialised(self, module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """Lazy layers take their shapes, and their first weights, from one input as the data have it."""
        if not any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
            return module
        module.eval()
        try:
            with torch.no_grad():
                module(torch.rand(1, *shape))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # anyone's code
            raise Refused(
                f"the lazy layers of {self.path} cannot read an input of shape {shape}: {_line(error)}",
                remedy="give its layers their sizes, or choose a model for such inputs",
                where="model",
            ) from error
        return module.train()


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
