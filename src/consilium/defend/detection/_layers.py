"""What a network computes inside: what its layers read, from the second on, and what they answer in the end.

Pictures within the network are averaged over space, but what the last layer reads is kept whole.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.defend.model._fx import is_quantised

__all__ = ["check_readable", "last_read", "read_by_layers"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def read_by_layers(model: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Features ``(n, d_l)`` read by each layer after the first (of a single layer: by that one), and the logits."""
    inputs, logits = _inputs(model, x)
    return [_flat(one) for one in inputs[1:-1]] + [inputs[-1].flatten(1)], logits


def last_read(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features ``(n, d)`` read by the last layer, and the logits."""
    inputs, logits = _inputs(model, x)
    return inputs[-1].flatten(1), logits


def check_readable(kind: str, model: nn.Module, example: Tensor) -> None:
    """Refuse a ``model`` without float layers whose features have one row for each record.

    Raises Refused: layers of int8, none at all, or none that reads one row for each record.
    """
    if is_quantised(model):
        raise Refused(
            f"{kind} follows what float layers read, and static-int8 leaves none",
            remedy="use feature-squeezing, which looks at answers alone, or leave out static-int8",
        )
    x = example.expand(2, *example.shape[1:])
    inputs = _inputs(model, x)[0] if any(isinstance(m, _LAYERS) for m in model.modules()) else []
    if not inputs or any(len(one) != len(x) for one in inputs):
        raise Refused(
            f"{kind} needs linear or convolutional layers that read a row for each record, and the model has none",
            remedy="use feature-squeezing, which looks at answers alone",
        )


def _inputs(model: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
    inputs: list[Tensor] = []
    hook = _keeping(inputs)
    handles = [m.register_forward_pre_hook(hook) for m in model.modules() if isinstance(m, _LAYERS)]
    try:
        logits: Tensor = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return inputs, logits


def _keeping(inputs: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.append(args[0])

    return keep


def _flat(features: Tensor) -> Tensor:
    return features.flatten(2).mean(2) if features.dim() > 2 else features.flatten(1)
