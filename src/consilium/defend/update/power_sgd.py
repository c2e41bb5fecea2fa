"""PowerSGD: every layer's change M (n x m) is sent as two thin matrices, by one step of power iteration a round.

    P = orthonormal(M Q),    Q <- M' P,    send P and Q,    D = P Q',    e <- M - D

Q starts from the last round's (warm start), so the steps add up to the best rank-r subspace.  A layer is a matrix by
its first axis against the rest; vectors and layers that P and Q would not make smaller are sent exactly.
4 (sum r (n + m) + rest) bytes.  In the paper P is summed over workers before Q is made, a second exchange; here each
site decomposes its own update, so that every merge can read it.

Source: Vogels et al. 2019, PowerSGD: Practical Low-Rank Gradient Compression, arXiv 1905.13727
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.update import Payload

from ._codec import Codec, refuse

__all__ = ["PowerSGD"]


@dataclass(frozen=True)
class PowerSGD(Codec):
    """Sends every layer's change as a product of ``rank`` columns; with ``feedback`` the rest is sent later."""

    rank: int = 2
    """Rank of the two thin matrices that stand for a layer's change."""
    feedback: bool = True
    """Whether what was not sent is added to the next update (error feedback)."""

    def __post_init__(self) -> None:
        check(self.rank >= 1, "rank", self.rank, "at least 1")

    def made_for(self, network: Network) -> Codec:
        """The codec for the layers of ``network``, which alone can encode and decode."""
        params, _ = network.start()
        return _LayerwiseCodec(self, tuple(tuple(p.shape) for p in network.parameters_at(params).values()))

    @property
    def corrects(self) -> bool:
        """The entry's parameter ``feedback``."""
        return self.feedback

    def wire(self, size: int) -> Mapping[str, tuple[torch.dtype, int]]:
        """Defined after ``made_for(network)`` only; raises Refused."""
        raise _unbound()

    def encode(self, vector: Tensor, memory: Payload, generator: torch.Generator) -> tuple[Payload, Payload]:
        """Defined after ``made_for(network)`` only; raises Refused."""
        raise _unbound()

    def decode(self, parts: Payload, size: int) -> Tensor:
        """Defined after ``made_for(network)`` only; raises Refused."""
        raise _unbound()


@dataclass(frozen=True)
class _LayerwiseCodec(Codec):
    """PowerSGD for layers of these shapes."""

    knobs: PowerSGD
    shapes: tuple[tuple[int, ...], ...]

    @property
    def corrects(self) -> bool:
        return self.knobs.feedback

    def wire(self, size: int) -> Mapping[str, tuple[torch.dtype, int]]:
        known = sum(math.prod(shape) for shape in self.shapes)
        if size != known:
            raise Refused(
                f"the entry has {size} numbers, the layers given to power-sgd {known}",
                remedy="use another codec with this algorithm",
            )
        low = [of for of in map(self._matrix, self.shapes) if of is not None]
        p, q = (self.knobs.rank * sum(of[side] for of in low) for side in (0, 1))
        rest = size - sum(n * m for n, m in low)
        return {part: (torch.float32, n) for part, n in (("p", p), ("q", q), ("rest", rest))}

    def encode(self, vector: Tensor, memory: Payload, generator: torch.Generator) -> tuple[Payload, Payload]:
        length = self.wire(vector.numel())["q"][1]
        initial = torch.randn(length, generator=generator, device=vector.device)
        starts, rank = memory.get("q", initial), self.knobs.rank
        factors: dict[str, list[Tensor]] = {"p": [vector[:0]], "q": [vector[:0]], "rest": [vector[:0]]}
        at = 0
        for layer, matrix in self._layers(vector):
            if matrix is None:
                factors["rest"].append(layer)
                continue
            end = at + rank * matrix[1]
            p, q = _power_step(layer.view(matrix), starts[at:end].view(-1, rank), initial[at:end].view(-1, rank))
            factors["p"].append(p.reshape(-1))
            factors["q"].append(q.reshape(-1))
            at = end
        parts = {part: torch.cat(pieces) for part, pieces in factors.items()}
        return parts, {"q": parts["q"]}

    def decode(self, parts: Payload, size: int) -> Tensor:
        if not all(bool(part.isfinite().all()) for part in parts.values()):
            raise refuse("a factor is not finite")
        out, queue = [], dict(parts)
        for shape in self.shapes:
            matrix = self._matrix(shape)
            if matrix is None:
                out.append(_next(queue, "rest", math.prod(shape)))
                continue
            p, q = (_next(queue, part, self.knobs.rank * n) for part, n in zip(("p", "q"), matrix, strict=True))
            out.append((p.view(matrix[0], -1) @ q.view(matrix[1], -1).T).reshape(-1))
        return torch.cat(out)

    def _layers(self, flat: Tensor) -> Iterator[tuple[Tensor, tuple[int, int] | None]]:
        pieces = torch.split(flat, [math.prod(shape) for shape in self.shapes])
        yield from zip(pieces, map(self._matrix, self.shapes), strict=True)

    def _matrix(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """(n, m) of a layer that two thin matrices make smaller."""
        if len(shape) < 2:
            return None
        n, m = shape[0], math.prod(shape[1:])
        return (n, m) if self.knobs.rank * (n + m) < n * m else None


def _power_step(matrix: Tensor, start: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """P ``(n, r)`` with orthonormal columns and Q ``(m, r)``; a start column of zeros is replaced by a random one."""
    start = torch.where((start == 0).all(0), initial, start)
    p = torch.linalg.qr(matrix @ start).Q
    return p, matrix.T @ p


def _next(queue: dict[str, Tensor], part: str, length: int) -> Tensor:
    head, queue[part] = queue[part][:length], queue[part][length:]
    return head


def _unbound() -> Refused:
    return Refused("power-sgd was called without the network's layers", remedy="call made_for(network) first")
