"""Tensors on disk: safetensors only, pickle is never read; a file is written beside its place and moved there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import Failed, Refused
from .files import drafted, regular, unwritten

__all__ = ["read_tensors", "write_tensors"]


def read_tensors(path: Path, where: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file; anything else is refused.

    Raises Refused: the file is not readable as safetensors.
    """
    try:
        return load_file(regular(path))
    except (OSError, SafetensorError) as error:
        raise Refused(
            f"cannot read {path} as safetensors: {error}",
            remedy="give a file written by safetensors (pickled .pt files are never read)",
            where=where,
        ) from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Replace ``path`` atomically: a kill leaves the old file or the new one.

    Raises Failed: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft:
            save_file(
                {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, draft, dict(about or {})
            )
    except (OSError, SafetensorError) as error:
        raise Failed(f"cannot write {path}: {error}", remedy=unwritten(error)) from error
