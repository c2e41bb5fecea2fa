"""Tensors on disk: safetensors only, pickle is never read; a file is written beside its place and moved there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from consilium.core.errors import Failed, Refused

__all__ = ["read_tensors", "write_tensors"]


def read_tensors(path: Path, where: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file; anything else is refused."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise Refused(
            f"cannot read {path} as safetensors: {error}",
            remedy="give a file written by safetensors (pickled .pt files are never read)",
            where=where,
        ) from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Replace ``path`` atomically: a kill leaves the old file or the new one."""
    draft = path.with_name(path.name + ".draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, draft, dict(about or {})
        )
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        draft.unlink(missing_ok=True)
        raise Failed(
            f"cannot write {path}: {error}", remedy="free disk space and run again; nothing finished is lost"
        ) from error
