"""Any ``torch.nn.Module`` of the user's, by import path.

Importing runs the user's code, so a study must say ``allow-code = true`` and :func:`consilium.load`
``allow_code=True``.
Source: none; an adapter.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from consilium.core.errors import Refused
from consilium.learn.architecture import Architecture

__all__ = ["Module"]


@dataclass(frozen=True)
class Module(Architecture):
    """A class or function ``package.module:Name`` that returns a module from inputs in [0, 1] to logits."""

    path: str
    arguments: dict[str, Any] = field(default_factory=dict)
    allow_code: bool = False

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """``Name(**arguments)``; the shapes are the user's business and are checked before training."""
        if not self.allow_code:
            raise Refused(
                f"model {self.path!r} would run code that is not Consilium's",
                remedy="set model.allow-code = true if you trust it",
                where="model.allow-code",
            )
        made = self._import()(**self.arguments)
        if not isinstance(made, nn.Module):
            raise Refused(
                f"{self.path} returned a {type(made).__name__}, not a torch.nn.Module",
                remedy="name a class of modules, or a function that returns one",
                where="model.path",
            )
        return made

    def _import(self) -> Any:
        """Looked for in the current folder first, as ``python -m`` does."""
        module, _, name = self.path.partition(":")
        here = str(Path.cwd())
        sys.path.insert(0, here)
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise Refused(
                f"cannot import {self.path!r}: {error}",
                remedy='give "package.module:Name" and run in its folder, or set PYTHONPATH',
                where="model.path",
            ) from error
        finally:
            sys.path.remove(here)
