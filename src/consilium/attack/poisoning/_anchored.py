"""A site's local training with a second loss, the distance to the broadcast model: what an anomaly detector looks at.

    loss = alpha L(w) + (1 - alpha) ||w - w_t||

Source: Bagdasaryan et al. 2020, How To Backdoor Federated Learning, arXiv 1807.00459, section 4.3 (constrain-and-scale)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch

from consilium.core.algorithm import Algorithm, AlgorithmState, Broadcast, Server, Work
from consilium.core.gradient import Gradient, Schedule
from consilium.core.update import Aggregate, Payload

__all__ = ["anchored"]

_ANCHOR = "broadcast-model"


def anchored(algorithm: Algorithm, alpha: float) -> Algorithm:
    """``algorithm`` whose sites also stay near the broadcast model; unchanged where ``alpha`` is 1."""
    return algorithm if alpha == 1 else _Anchored(algorithm, alpha, float(getattr(algorithm, "lr", 1.0)))


@dataclass(frozen=True)
class _Anchored(Algorithm):
    """The site half of ``inner``, with its learning rate ``lr`` where it has one."""

    inner: Algorithm
    alpha: float
    lr: float

    def schedule(self, schedule: Schedule) -> Schedule:
        return self.inner.schedule(schedule)

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        work = self._now().begin(broadcast, state, steps)
        return replace(work, memory={**work.memory, _ANCHOR: broadcast.params})

    def step(self, work: Work, gradient: Gradient) -> Work:
        anchor = work.memory[_ANCHOR]
        apart = work.params - anchor
        pull = apart / torch.linalg.vector_norm(apart).clamp_min(1e-12)
        value = self.alpha * gradient.value + (1 - self.alpha) * pull
        after = self._now().step(work, replace(gradient, value=value))
        return replace(after, memory={**after.memory, _ANCHOR: anchor})

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        memory = {name: tensor for name, tensor in work.memory.items() if name != _ANCHOR}
        return self._now().finish(broadcast, replace(work, memory=memory))

    def expects(self, server: Server) -> Mapping[str, tuple[int, ...]]:
        return self.inner.expects(server)

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        return self.inner.advance(server, aggregate)

    def _now(self) -> Algorithm:
        """The inner one at the rate of the round."""
        if "lr" not in {f.name for f in fields(self.inner)}:
            return self.inner
        rate: dict[str, float] = {"lr": self.lr}
        return replace(self.inner, **rate)
