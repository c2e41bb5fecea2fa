"""A module that was handed over in Python: its structure and its first weights, in one safetensors file.

:class:`consilium.Study` writes the file into the study's folder, named by its SHA-256.  Its weights are the first ones
of every training, whatever the seed.  Layers that are not torch's own are imported, which runs their code.
Source: none; an adapter.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from consilium.core.code_file import NOTEBOOK
from consilium.core.errors import Refused
from consilium.core.files import regular
from consilium.core.plain import Json, json_object
from consilium.core.stored_input import shared_name
from consilium.core.tensor_files import read_tensors
from consilium.learn.architecture import Architecture
from consilium.learn.user_code.skeleton import SKELETON, TORCH, classes_of, from_skeleton

__all__ = ["StoredModule"]


@dataclass(frozen=True)
class StoredModule(Architecture):
    """A module that was given as an object, with its first weights."""

    path: str
    """The stored module: its code and first weights, in the study's folder."""
    allow_code: bool = False
    """Whether the class of the module may be run."""

    def configuration(self) -> dict[str, Json]:
        """The file by its digest, wherever the study's folder is."""
        return {**super().configuration(), "path": shared_name(self.path)}

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The module as it was handed over.

        Raises Refused: ``allow-code`` is not set and it has layers of a user's, or the file cannot be read.
        """
        structure = self._structure()
        own_classes = self.custom_classes()
        if own_classes and not self.allow_code:
            reason = f"the model would run {own_classes[0]}, which is not torch's"
            raise Refused(reason, remedy="set model.allow-code = true if you trust it", where="model.allow-code")
        here = str(Path.cwd())
        sys.path.insert(0, here)
        try:
            return from_skeleton(structure, read_tensors(Path(self.path), "model.path"))
        finally:
            if here in sys.path:  # the user's code may have changed it
                sys.path.remove(here)

    def custom_classes(self) -> list[str]:
        """The classes and functions that are not layers of torch, by import path."""
        return [path for path in dict.fromkeys(classes_of(self._structure())) if not path.startswith(TORCH)]

    def in_notebook(self) -> bool:
        """Whether some class is of a notebook, or of the script that runs."""
        return any(path.startswith(f"{NOTEBOOK}:") for path in self.custom_classes())

    def _structure(self) -> Mapping[str, Any]:
        try:
            with safe_open(regular(Path(self.path)), framework="pt") as file:
                text = (file.metadata() or {})[SKELETON]
            return json_object(text.encode())
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            reason = f"{self.path} is no module that was stored here: {error}"
            raise Refused(reason, remedy="run the study again where the object is", where="model.path") from error
