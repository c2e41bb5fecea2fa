"""Whether a module answers a record alike, alone and in every batch.

    |f(x_i) - f(batch)_i| <= tolerance * spread + 1e-5 * largest

``spread`` is what decides between classes: the median over records of the range of a record's logits.  ``largest`` is
the largest logit, to which float32 rounds.  A kernel that is chosen by the size of the batch rounds in another order
and no more; one that is wrong, or a layer that looks at its neighbours, departs by the size of the answers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["FEW_SIZES", "SIZES", "Departure", "answered_apart", "departure", "same_answers"]

SIZES = (2, 3, 8, 64, 65, 256, 257, 512)
"""Batches up to those that models are judged and attacked in, and those just above where kernels change."""
FEW_SIZES = (2, 3, 65, 257)
"""What is looked at before training."""
_ROUNDING = 1e-5
_ASKED = 64


@dataclass(frozen=True)
class Departure:
    """A record that is answered otherwise in a batch; ``share`` of the spread of the logits; the ``layer`` at fault."""

    batch: int
    record: int
    share: float
    layer: str = ""

    def __str__(self) -> str:
        moved = f"by {self.share:.2g} of the spread of its logits"
        return f"in batches of {self.batch} record {self.record} is answered otherwise than alone, {moved}{self.layer}"


def departure(module: nn.Module, x: Tensor, tolerance: float = 1e-3, sizes: Sequence[int] = SIZES) -> Departure | None:
    """Where ``module`` answers ``x (n, *shape)``, n > 0, otherwise in a batch than alone; None if it does not.

    Every record is answered alone and in a batch of every size, with others of ``x``, as often as it takes to fill it.
    For the first size with a departure the largest is reported.
    """
    with torch.no_grad():
        alone = torch.cat([module(record[None]) for record in x]).flatten(1)
        spread = _spread(alone)
        slack = tolerance * spread + _ROUNDING * float(alone.abs().nan_to_num().max())
        for size in sizes:
            at, share, beside = 0, 0.0, torch.arange(0)
            for rows in _batches(len(x), size):
                off = _apart(module(x[rows]).flatten(1), alone[rows])
                if float(off.max()) > max(slack, share):
                    at, share, beside = int(off.argmax()), float(off.max()), rows
            if share:
                layer = _layer(module, x[beside], at, tolerance)
                return Departure(size, int(beside[at]), share / max(spread, 1e-12), layer)
    return None


def answered_apart(module: nn.Module, x: Tensor, answers: Tensor, tolerance: float = 1e-3) -> int | None:
    """The record of ``x (n, *shape)`` whose ``answers (n, ...)``, given in batches, are not those it has alone.

    At most 64 records, evenly spread, are evaluated singly; None if none differs.
    """
    rows = torch.linspace(0, len(x) - 1, min(len(x), _ASKED)).round().long()
    with torch.no_grad():
        alone = torch.cat([module(x[i][None]) for i in rows.tolist()]).flatten(1)
    spread = _spread(alone)
    off = _apart(answers[rows.to(answers.device)].flatten(1), alone)
    worst = int(off.argmax())
    if float(off[worst]) > tolerance * spread + _ROUNDING * float(alone.abs().nan_to_num().max()):
        return int(rows[worst])
    return None


def _spread(answers: Tensor) -> float:
    """How far the answers ``(n, k)`` of a record lie apart, at the median; of a single answer, those of all records."""
    if answers.shape[1] == 1:
        return float((answers.amax() - answers.amin()).nan_to_num())
    return float((answers.amax(1) - answers.amin(1)).nan_to_num().median())


def same_answers(one: Tensor, other: Tensor) -> bool:
    """But for rounding: a sum over threads or on a GPU may be taken in another order."""
    return torch.allclose(one, other, rtol=1e-5, atol=1e-6 * float(one.abs().nan_to_num().max()), equal_nan=True)


def _layer(module: nn.Module, x: Tensor, at: int, tolerance: float) -> str:
    """Where the answers part first: what a layer is given and gives for record ``at``, alone and in the batch ``x``."""
    alone, batch = _steps(module, x[at][None]), _steps(module, x)
    for (path, layer, *tensors), (other, _, *beside) in zip(alone, batch, strict=False):
        if path != other:
            break
        for where, one, many in zip(("before", "at"), tensors, beside, strict=True):
            if len(one) == 1 and one.shape[1:] == many.shape[1:] and len(many) == len(x):
                apart = _apart(one.flatten(1), many[at][None].flatten(1))
                if one.numel() and float(apart) > max(tolerance, _ROUNDING) * float(one.abs().max()):
                    return f", first {where} layer {path} ({type(layer).__name__})"
    return ""


def _steps(module: nn.Module, x: Tensor) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """Each innermost layer in the order of calls, with the tensor it is given and the tensor it gives."""
    steps: list[tuple[str, nn.Module, Tensor, Tensor]] = []

    def hook(path: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def keep(layer: nn.Module, args: tuple[object, ...], out: object) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(out, Tensor):
                steps.append((path, layer, _plain(args[0]), _plain(out)))

        return keep

    inner = [(p, m) for p, m in module.named_modules() if p and not any(True for _ in m.children())]
    handles = [layer.register_forward_hook(hook(path)) for path, layer in inner]
    try:
        module(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return steps


def _plain(tensor: Tensor) -> Tensor:
    return (tensor.dequantize() if tensor.is_quantized else tensor).detach().float().clone()


def _batches(n: int, size: int) -> Iterator[Tensor]:
    """Whole batches of ``size`` positions that hold each of ``n`` at least once."""
    return iter(torch.split(torch.arange(-(-n // size) * size) % n, size))


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """The largest difference of each row ``(b,)``; infinite where one alone is not a number."""
    differences = torch.where(one.isnan() & other.isnan(), 0, (one - other).abs())
    return differences.nan_to_num(nan=float("inf"), posinf=float("inf")).amax(1)
