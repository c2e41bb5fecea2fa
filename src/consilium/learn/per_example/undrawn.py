"""Random draws put out of action, so that a record can be compared alone and in a batch.

Draws for a batch are not those for one record.  Inside :class:`Undrawn` dropout keeps everything, every coin shows one,
every other number is a half and every permutation is the identity: what still depends on the batch is not chance.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Undrawn"]

_DROPOUTS = frozenset({
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "feature_dropout",
    "alpha_dropout_", "dropout_", "feature_alpha_dropout_", "feature_dropout_", "native_dropout",
})  # fmt: skip
_COINS = frozenset({"bernoulli", "bernoulli_"})
_NUMBERS = frozenset({
    "rand", "rand_like", "randn", "randn_like", "uniform_", "normal", "normal_", "randint", "randint_like", "random_",
    "exponential_", "log_normal_", "cauchy_", "geometric_",
})  # fmt: skip


class Undrawn(TorchFunctionMode):
    """Constants in the place of draws; what draws inside a function of another name (rrelu, a GRU) still draws.

    Not a TorchDispatchMode, which would reach those too: entering one imports torch._dynamo, four seconds.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The result of ``func``, with constants where it draws."""
        name, named = getattr(func, "__name__", ""), dict(kwargs or {})
        if name in _DROPOUTS:
            return args[0] if args else named["input"]
        if name == "multi_head_attention_forward":
            binding = inspect.signature(func).bind(*args, **named)
            binding.arguments["dropout_p"] = 0.0
            return func(*binding.args, **binding.kwargs)
        if name == "scaled_dot_product_attention":
            args, named = (*args[:4], *((0.0,) if len(args) > 4 else ()), *args[5:]), {**named}
            named.update({"dropout_p": 0.0} if "dropout_p" in named else {})
        out = func(*args, **named)
        if isinstance(out, Tensor) and name in _COINS | _NUMBERS | {"randperm"}:
            with torch.no_grad():
                _set(out, name)
        return out


def _set(out: Tensor, name: str) -> None:
    if name == "randperm":
        out.copy_(torch.arange(len(out), device=out.device))
    elif name in _COINS:
        out.fill_(1)
    else:
        out.fill_(0.5 if out.is_floating_point() else 0)
