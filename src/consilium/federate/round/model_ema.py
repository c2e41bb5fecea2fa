"""The released model as an exponential moving average of the server's models over the rounds.

    a_t = sum_{i <= t} (1 - d) d^(t - i) w_i / (1 - d^t) = a_{t-1} + (1 - d) / (1 - d^t) (w_t - a_{t-1})

Training goes on from w_t.  Under DP this is post-processing of what was released anyway: it averages noise away and
costs nothing.  The start w_0 has no weight.

Source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30:838; under DP De et al. 2022, arXiv 2204.13650.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consilium.core.algorithm import Algorithm, Server
from consilium.core.errors import Failed, Unlawful

__all__ = ["ModelEMA"]


@dataclass(frozen=True)
class ModelEMA:
    """``decay`` d per round; 0: the last model is released."""

    decay: float = 0.0

    def refuse(self, algorithm: Algorithm) -> None:
        """Refuse an algorithm that makes a model for each site: the average is the server's.

        Raises Unlawful: the algorithm is personal.
        """
        if self.decay and algorithm.personal:
            raise Unlawful(
                f"{algorithm.kind()} makes a model for each site, and the average is of the server's",
                remedy="leave out federation.ema",
            )

    def begun(self, server: Server) -> Server:
        """``server`` before the first round, with room for the average."""
        if not self.decay:
            return server
        return _remembering(server, server.params, server.buffers, torch.zeros(()))

    def after(self, before: Server, server: Server) -> Server:
        """``server``, the state after a round that started from ``before``, with the average updated."""
        if not self.decay:
            return server
        params, buffers, counted = _remembered(before)
        share = (1 - self.decay) / (1 - self.decay ** (float(counted) + 1))
        return _remembering(server, params.lerp(server.params, share), buffers.lerp(server.buffers, share), counted + 1)

    def released(self, server: Server) -> Server:
        """``server`` with the average in the place of its model; as it is before the first round that counts."""
        if not self.decay:
            return server
        params, buffers, counted = _remembered(server)
        return replace(server, params=params, buffers=buffers) if float(counted) else server


def _remembering(server: Server, params: Tensor, buffers: Tensor, counted: Tensor) -> Server:
    entries = {"average": params, "average_buffers": buffers, "average_rounds": counted}
    return replace(server, memory={**server.memory, **entries})


def _remembered(server: Server) -> tuple[Tensor, Tensor, Tensor]:
    """The average of the parameters and of the buffers, and of how many rounds it is."""
    memory = server.memory
    if "average" not in memory:
        raise Failed(f"the average of {server.round} rounds is not in the server's memory", remedy="train again")
    return memory["average"], memory["average_buffers"], memory["average_rounds"]
