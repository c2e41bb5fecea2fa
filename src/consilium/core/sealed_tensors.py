"""States on disk with a seal: a safetensors file that names what it belongs to, and notices any change to itself.

    metadata "about" = {the writer's metadata, "tensors": SHA-256 of all of them, and the seal of such a record}

The seal is in the file, so both are replaced in one step and a kill leaves no file without its seal.  A reader says
which training, site or round it expects, so a file of another one is noticed too.  It is no signature: see
:mod:`consilium.core.seal`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, uint8

from .errors import Failed
from .files import regular
from .plain import Json, json_object
from .seal import is_altered, is_sealed, sealed, unsealed
from .tensor_files import write_tensors

__all__ = ["about_sealed", "read_sealed", "write_sealed"]

_TENSORS = "tensors"
_log = logging.getLogger("consilium.seal")


def write_sealed(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Replace ``path`` atomically by ``tensors`` and ``about``, sealed; raises Failed where it cannot be written."""
    write_tensors(path, tensors, about_sealed(tensors, about))


def about_sealed(tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> dict[str, str]:
    """The metadata of such a file; one entry, as several have no fixed order in the file."""
    return {"about": json.dumps(sealed({**about, _TENSORS: _digest(tensors)}))}


def read_sealed(
    path: Path, what: str, remedy: str, expected: Mapping[str, object] | None = None, device: str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Json]]:
    """Tensors on ``device`` and their metadata; Failed names ``what`` and the ``remedy``.

    ``expected`` are fields that a sealed file must have with these values.  A file from before there were seals is read
    as it is, with a warning in the log.

    Raises Failed: the file is not readable, its seal does not hold, or a field differs from ``expected``.
    """
    try:
        with safe_open(regular(path), framework="pt", device="cpu") as file:
            about = json_object((file.metadata() or {"about": "{}"})["about"].encode())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Failed(f"{what} {path} is not readable: {error}", remedy=remedy) from error
    if not is_sealed(about):
        _say_unsealed(what, path.parent)
    elif is_altered(about) or about.get(_TENSORS) != _digest(tensors):
        raise Failed(f"{what} {path} was changed after it was written: its seal does not hold", remedy=remedy)
    else:
        _check(about, expected or {}, f"{what} {path}", remedy)
    fields = {name: value for name, value in unsealed(about).items() if name != _TENSORS}
    return {name: tensor.to(device) for name, tensor in tensors.items()}, fields


@lru_cache(maxsize=1024)
def _say_unsealed(what: str, folder: Path) -> None:
    """Once for all the files of a folder."""
    _log.warning("%s in %s is not sealed: a change since it was written cannot be detected", what, folder)


def _check(about: Mapping[str, object], expected: Mapping[str, object], which: str, remedy: str) -> None:
    for name, value in expected.items():
        if about.get(name) != value:
            raise Failed(f"{which} is of {name} {about.get(name)!r:.80}, not of {value!r:.80}", remedy=remedy)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        whole.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        if tensor.numel():
            whole.update(tensor.reshape(-1).view(uint8).numpy().data)
    return whole.hexdigest()
