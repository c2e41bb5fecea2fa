"""What a module keeps where torch does not look: such layers are never trained, stored, moved or set to evaluation.

    self.blocks = [nn.Linear(8, 8), nn.Linear(8, 8)]      neither is in parameters(), and the model trains without them

torch registers modules and parameters that are attributes themselves, and nothing inside lists and dicts of Python.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from consilium.core.errors import Refused

__all__ = ["check_registered"]

_DEPTH = 5
_OWN = frozenset(vars(nn.Module()))
"""Where torch itself keeps what is registered, and hooks."""
_Held = nn.Module | Tensor


def check_registered(module: nn.Module) -> None:
    """Refuse layers with weights, parameters and tensors that want a gradient outside of the tree of ``module``."""
    known = {id(one) for one in (*module.modules(), *module.parameters(), *module.buffers())}
    for path, layer in module.named_modules():
        for name, value in vars(layer).items():
            if name not in _OWN:
                for one in _within(value, _DEPTH):
                    if id(one) not in known and _learns(one):
                        raise _refused(f"{path}.{name}" if path else name, value, one)


def _within(value: object, depth: int) -> Iterator[_Held]:
    """Modules and tensors in containers of Python, to a depth that ends in cycles too."""
    if isinstance(value, _Held):
        yield value
    elif depth and isinstance(value, Mapping):
        for one in (*value.keys(), *value.values()):
            yield from _within(one, depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset | deque):
        for one in value:
            yield from _within(one, depth - 1)


def _learns(one: _Held) -> bool:
    if isinstance(one, nn.Module):
        return next(one.parameters(), None) is not None or next(one.buffers(), None) is not None
    return isinstance(one, nn.Parameter) or (one.is_leaf and one.requires_grad)


def _refused(name: str, value: object, one: _Held) -> Refused:
    layers, named = isinstance(one, nn.Module), isinstance(value, Mapping)
    if isinstance(value, _Held):
        what = f"{'layer' if layers else 'tensor'} self.{name} is"
        remedy = "assign it as an attribute: self.layer = layer" if layers else "use nn.Parameter"
    else:
        what = f"layers ({type(one).__name__})" if layers else "parameters"
        what = f"{what} in self.{name} (a {type(value).__name__}) are"
        remedy = f"use nn.{'Module' if layers else 'Parameter'}{'Dict' if named else 'List'}"
    return Refused(f"{what} not registered: neither trained nor stored", remedy=remedy, where="model")
