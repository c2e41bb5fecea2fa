"""The released model as an exponential moving average of the server's models over the rounds.

    a_t = sum_{i <= t} (1 - d) d^(t - i) w_i / (1 - d^t) = a_{t-1} + (1 - d) / (1 - d^t) (w_t - a_{t-1})

Training goes on from w_t.  Under DP this is post-processing of what was released anyway: it averages noise away and
costs nothing.  The start w_0 has no weight.

Source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30:838; under DP De et al. 2022, arXiv 2204.13650.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from consilium.core.algorithm import Algorithm, Server
from consilium.core.errors import Unlawful

__all__ = ["Average"]

_PARAMS, _BUFFERS = "average/params", "average/buffers"


@dataclass(frozen=True)
class Average:
    """``decay`` d per round; 0: the last model is released."""

    decay: float = 0.0

    def refuse(self, algorithm: Algorithm) -> None:
        """Refuse an algorithm that makes a model for each site: the average is the server's."""
        if self.decay and algorithm.personal:
            raise Unlawful(
                f"{algorithm.kind()} makes a model for each site, and the average is of the server's",
                remedy="leave out federation.ema",
            )

    def after(self, before: Server, server: Server) -> Server:
        """``server``, the state after a round that began with ``before``, with the average brought up to date."""
        if not self.decay:
            return server
        share = (1 - self.decay) / (1 - self.decay**server.round)

        def moved(name: str, now: Tensor) -> Tensor:
            return now.lerp(before.memory[name], 1 - share) if name in before.memory else now

        averages = {_PARAMS: moved(_PARAMS, server.params), _BUFFERS: moved(_BUFFERS, server.buffers)}
        return replace(server, memory={**server.memory, **averages})

    def released(self, server: Server) -> Server:
        """``server`` with the average in the place of its model; as it is before the first round."""
        if not self.decay or _PARAMS not in server.memory:
            return server
        return replace(server, params=server.memory[_PARAMS], buffers=server.memory[_BUFFERS])
