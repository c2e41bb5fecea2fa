"""FedNova: normalised averaging, so that sites which step more often do not pull the model their way.

    at site k:  tau_k steps of SGD, perhaps with momentum rho, from w_t
                a_k = sum_j (1 - rho^j) / (1 - rho), j = 1 .. tau_k        (tau_k without momentum)
                sends  (w - w_t) / a_k  and  a_k
    server:     w_{t+1} = w_t + (sum_k p_k a_k) (sum_k p_k (w - w_t) / a_k),   p_k = n_k / n

a_k is how often a site's gradients count in what it changed.  Where all a_k are equal this is FedAvg.  a_k follows from
n_k and the schedule, which any DP claim here takes as public (LAWS 9).

Source: Wang et al. 2020, arXiv:2007.07481, section 4 and appendix (a_k with local momentum).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consilium.core.algorithm import Algorithm, AlgorithmState, Broadcast, Server, Work
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.gradient import Gradient, Schedule
from consilium.core.update import Aggregate, Payload
from consilium.learn.optimiser import descend

from ._local import moved

__all__ = ["FedNova"]

_ROUNDING = 1e-5


@dataclass(frozen=True)
class FedNova(Algorithm):
    """FedAvg of changes per effective local step, for sites that do unequal work."""

    lr: float = 0.1
    """Learning rate of a site's local steps."""
    momentum: float = 0.0
    """Momentum of a site's local steps; 0 is none."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")
        check(0 <= self.momentum < 1, "momentum", self.momentum, "0 to 1, 1 excluded")

    def schedule(self, schedule: Schedule) -> Schedule:
        """``schedule`` unchanged."""
        return schedule

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        """From the shared parameters; the momentum starts afresh every round."""
        return Work(broadcast.params, broadcast.buffers, planned=steps)

    def step(self, work: Work, gradient: Gradient) -> Work:
        """One step of SGD."""
        return descend(work, gradient, "sgd", self.lr, self.momentum)

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        """``delta (d,)`` per effective step, ``steps (1,)`` how many those were, and ``buffers (b,)``."""
        counted = self._counted(work.steps)
        sent = {
            "delta": (work.params - broadcast.params) / max(counted, 1.0),
            "steps": broadcast.params.new_full((1,), counted),
            "buffers": work.buffers - broadcast.buffers,
        }
        return sent, AlgorithmState()

    def expects(self, server: Server) -> Mapping[str, tuple[int, ...]]:
        """The usual, and ``steps (1,)``."""
        return {**super().expects(server), "steps": (1,)}

    def check(self, payload: Payload, steps: int) -> None:
        """a_k is at most that of the steps that were planned: it multiplies every site's change.

        Raises Refused: more effective steps than planned.
        """
        effective, rho = float(payload["steps"]), self.momentum
        most = (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)  # the sum below in closed form
        if not 0 <= effective <= most * (1 + _ROUNDING):
            raise Refused(f"counts {effective:g} effective steps, and at most {most:g} were planned")

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """As many steps along the mean direction as the cohort did on average."""
        return moved(server, aggregate, server.params + aggregate.payload["steps"] * aggregate.payload["delta"])

    def _counted(self, steps: int) -> float:
        """||a||_1 of ``steps`` steps; at least 1 unless there was none."""
        rho = self.momentum
        return sum((1 - rho**j) / (1 - rho) for j in range(1, steps + 1))
