"""What an attack is shown stays as it was: an entry from elsewhere may write into what later attacks are judged on.

Entries of this package are held to it by the contract suite, so nothing is copied for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor, nn

from .entry import Entry
from .errors import Failed
from .network import Network, named_tensors

__all__ = ["untouched"]


@contextmanager
def untouched(view: object, entry: Entry) -> Iterator[None]:
    """The tensors and models of ``view``, put back where ``entry`` wrote into them.

    Raises Failed: it did.
    """
    if entry.is_builtin():
        yield
        return
    originals = [(name, tensor, tensor.detach().clone()) for name, tensor in _tensors(view, "")]
    try:
        yield
    finally:
        changed = [name for name, tensor, copy in originals if not _same(tensor, copy)]
        with torch.no_grad():
            for _, tensor, copy in originals:
                tensor.copy_(copy)
    if changed:
        raise Failed(
            f"{entry.kind()} wrote into what it was shown ({changed[0]}): every later figure would be of other data",
            remedy="work on a copy: x.clone(), copy.deepcopy(module)",
        )


def _tensors(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        yield from ((f"{name}.{key}", tensor) for key, tensor in named_tensors(value).items())
    elif isinstance(value, Network):
        yield from _tensors(value.template, name)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)


def _same(tensor: Tensor, copy: Tensor) -> bool:
    return bool(torch.equal(torch.nan_to_num(tensor.detach()), torch.nan_to_num(copy)))
