"""Whether a module in training mode remembers: what is neither parameter nor buffer is not sent, stored or resumed.

    self.n += 1                 in forward: every site, process and resumed run would count on its own

Attributes of Python are compared before and after; what is kept elsewhere shows in the answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.frozen import frozen_layers, set_mode
from consilium.core.network import Network, fill
from consilium.core.random import Stream, scoped
from consilium.learn.alike import same_answers

__all__ = ["check_memory"]

_CALLS = 4
_DEPTH = 4
_MOST = 1000
"""Larger containers are not compared; what they change shows in the answers."""
_OWN = frozenset(vars(nn.Module()))
_BUFFERS = "keep it in a buffer (register_buffer), written in place, or do without it"


def check_memory(network: Network, params: Tensor, buffers: Tensor, x: Tensor) -> None:
    """Refuse a model that answers ``x``, or has plain attributes, otherwise after it was called in training mode.

    Raises Refused: an attribute changes, or answers to the same input, draws, parameters and buffers differ.
    """
    tensors = network.tensors_at(params, buffers)
    module = network.copy_at(params, buffers)
    with torch.no_grad():
        before, plain = module(x.clone()).clone(), dict(_plain_attributes(module))
        answers = [_answered(module, tensors, x) for _ in range(_CALLS)]
        changed = [name for name, value in _plain_attributes(module) if plain.get(name) != value]
        if changed:
            raise Refused(f"the model changes self.{changed[0]} in training mode", remedy=_BUFFERS, where="model")
        if not all(same_answers(answers[0], other) for other in answers[1:]):
            raise Refused(
                "in training mode the model answers the same input, with the same draws, otherwise when it is asked "
                "again: it remembers, or draws from another generator than torch's",
                remedy=f"draw from torch; {_BUFFERS}",
                where="model",
            )
        fill(module, tensors)
        if not same_answers(before, module.eval()(x.clone())):
            reason = "after calls in training mode the model answers otherwise, with the same parameters and buffers"
            raise Refused(reason, remedy=_BUFFERS, where="model")


def _answered(module: nn.Module, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    fill(module, tensors)
    set_mode(module, True, frozen_layers(module).values())
    with scoped(Stream(0, ("probe", "memory"))):
        answers: Tensor = module(x.clone())
    return answers.clone()


def _plain_attributes(module: nn.Module) -> Iterator[tuple[str, object]]:
    """Path and value of what Python keeps in a layer: numbers, texts, and containers of such."""
    for path, layer in module.named_modules():
        for name, value in vars(layer).items():
            if name not in _OWN and _is_plain(value, _DEPTH):
                yield (f"{path}.{name}" if path else name), repr(value)


def _is_plain(value: object, depth: int) -> bool:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return True
    if not depth or not isinstance(value, dict | list | tuple | set | frozenset | deque) or len(value) > _MOST:
        return False
    parts = (*value.keys(), *value.values()) if isinstance(value, dict) else value
    return all(_is_plain(one, depth - 1) for one in parts)
