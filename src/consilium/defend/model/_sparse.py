"""A float module stored without its zeros: the values that are kept, one bit per weight, and all else end to end.

Weights are parameters with two axes or more; what is stored rebuilds every bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused

from ._artefact import collect, fill_artefact, joined, split
from ._fx import is_quantised

__all__ = ["pack_smaller", "pack_sparse", "unpack_smaller", "unpack_sparse", "weights_of"]

_WORTH = 1 / 32
"""From this share of zeros on a bit per weight is smaller than the zeros."""


def pack_smaller(module: nn.Module) -> dict[str, Tensor]:
    """All tensors end to end, int8 codes as they are; of a module with enough zeros these are left out."""
    return pack_sparse(module) if _is_sparse(module) else joined(collect(module))


def unpack_smaller(module: nn.Module, artefact: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``module`` with what :func:`pack_smaller` stored."""
    if "mask" in artefact:
        return unpack_sparse(module, artefact)
    module = copy.deepcopy(module)
    return fill_artefact(module, split(artefact, collect(module)))


def pack_sparse(module: nn.Module) -> dict[str, Tensor]:
    """``kept`` values, ``mask`` (one bit per weight, packed) and all other tensors end to end."""
    named, tied = collect(module), _tied(module)
    weights = torch.cat([t.flatten() for _, t in weights_of(module)])
    rest = {name: t for name, t in named.items() if name not in tied}
    return {"kept": weights[weights != 0], "mask": _packed(weights != 0), **joined(rest)}


def unpack_sparse(module: nn.Module, artefact: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``module`` with the stored weights between their zeros."""
    module = copy.deepcopy(module)
    named, mine, tied = collect(module), _names(module), _tied(module)
    weights = {name: named[name] for name in mine}
    mask = _unpacked(artefact["mask"], sum(t.numel() for t in weights.values()))
    flat = torch.zeros(len(mask), dtype=artefact["kept"].dtype).masked_scatter(mask, artefact["kept"])
    dense = split({str(flat.dtype).removeprefix("torch."): flat}, weights)
    pruned = {name: dense[first] for name, first in tied.items()}
    return fill_artefact(module, {**pruned, **split(artefact, {n: t for n, t in named.items() if n not in tied})})


def weights_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What is pruned: parameters with two axes or more."""
    return ((name, p.detach()) for name, p in module.named_parameters() if p.dim() >= 2)


def _is_sparse(module: nn.Module) -> bool:
    """Whether enough float weights are zero that leaving them out makes the artefact smaller."""
    weights = [] if is_quantised(module) else [t for _, t in weights_of(module)]
    zeros, count = sum(int((t == 0).sum()) for t in weights), sum(t.numel() for t in weights)
    return len({t.dtype for t in weights}) == 1 and zeros > _WORTH * count


def _names(module: nn.Module) -> list[str]:
    """The names of :func:`weights_of` as :func:`collect` writes them."""
    return [name if "." in name else f".{name}" for name, _ in weights_of(module)]


def _tied(module: nn.Module) -> dict[str, str]:
    """Every name of a pruned weight, with the one under which it is stored: tied weights have several."""
    first = {
        id(module.get_parameter(name)): full for (name, _), full in zip(weights_of(module), _names(module), strict=True)
    }
    every = ((name if "." in name else f".{name}", p) for name, p in module.named_parameters(remove_duplicate=False))
    return {name: first[id(p)] for name, p in every if id(p) in first}


def _packed(bits: Tensor) -> Tensor:
    """Booleans ``(n,)`` as ``ceil(n / 8)`` bytes."""
    padded = torch.cat([bits, bits.new_zeros(-len(bits) % 8)]).view(-1, 8).to(torch.uint8)
    return (padded << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(1, dtype=torch.uint8)


def _unpacked(packed: Tensor, n: int) -> Tensor:
    """The inverse of :func:`_packed`; refused if the sizes differ."""
    if len(packed) != -(-n // 8):
        raise Refused("the stored model does not fit the structure that its recipe builds", remedy="train it again")
    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1
    return bits.flatten()[:n].bool()
