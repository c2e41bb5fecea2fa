"""Ditto: FedAvg for everyone, and beside it a personal model at each site that is held near the shared one.

    at site k:  w <- w - lr g(w)                          for E epochs, from w_t;   delta_k = w - w_t, as FedAvg
                v_k <- v_k - lr (g(v_k) + lam (v_k - w_t))  for E more epochs;      v_k never leaves
    server:     as FedAvg

lam = 0 is training alone, a large lam the shared model.  It takes twice the steps, so twice the time, and a DP rule
charges both halves; the pull is added after any noise (LAWS 12).

Source: Li et al. 2021, Ditto, arXiv:2012.04221, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from consilium.core.algorithm import AlgorithmState, Broadcast, Server, Work
from consilium.core.entry import check
from consilium.core.gradient import Gradient, Schedule
from consilium.core.update import Payload
from consilium.learn.optimiser import Optimiser

from ._local import LocalDescent

__all__ = ["Ditto"]


@dataclass(frozen=True)
class Ditto(LocalDescent):
    """FedAvg, and at each site a personal model with a pull of strength ``lam`` towards the shared one."""

    personal: ClassVar[bool] = True
    reads_planned: ClassVar[bool] = True

    lr: float = 0.1
    """Learning rate of a site's local steps, on the shared model and on its own."""
    momentum: float = 0.0
    """Momentum of a site's local steps; 0 is none."""
    optimiser: Optimiser = "sgd"
    """Rule of the local steps; `adam` takes no momentum, and its memory starts anew in each round."""
    lam: float = 0.1
    """Pull of a site's own model towards the shared one: 0 trains it alone."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(0 <= self.lam <= 1e6, "lam", self.lam, "0 to 1e6; 0.05 to 2 are usual")

    def schedule(self, schedule: Schedule) -> Schedule:
        """Twice the epochs: the shared model's, then the personal one's."""
        return replace(schedule, epochs=2 * schedule.epochs)

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        """At the shared model; the personal one is initialised as the shared model of the site's first round."""
        memory = {
            "anchor": broadcast.params,
            "other": state.tensors.get("params", broadcast.params),
            "other_buffers": state.tensors.get("buffers", broadcast.buffers),
        }
        return Work(broadcast.params, broadcast.buffers, planned=steps, memory=memory)

    def step(self, work: Work, gradient: Gradient) -> Work:
        """One step of the model whose turn it is; after half of the steps the two change places."""
        first = _first_half(work)
        if work.steps < first:
            after = self.descend(work, gradient, gradient.value)
            return _exchanged(after) if after.steps == first else after
        pull = self.lam * (work.params - work.memory["anchor"])
        after = self.descend(replace(work, steps=work.steps - first), gradient, gradient.value + pull)
        return replace(after, steps=work.steps + 1)

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        """The shared model's ``delta (d,)`` and ``buffers (b,)`` are sent; the personal model stays."""
        work = _exchanged(work) if work.steps >= _first_half(work) else work
        sent = {"delta": work.params - broadcast.params, "buffers": work.buffers - broadcast.buffers}
        return sent, AlgorithmState({"params": work.memory["other"], "buffers": work.memory["other_buffers"]})

    def model_for(self, server: Server, state: AlgorithmState | None) -> tuple[Tensor, Tensor]:
        """The shared model, also for a site without a personal one."""
        tensors = {} if state is None else state.tensors
        return tensors.get("params", server.params), tensors.get("buffers", server.buffers)


def _first_half(work: Work) -> int:
    return work.planned - work.planned // 2


def _exchanged(work: Work) -> Work:
    memory = {**work.memory, "other": work.params, "other_buffers": work.buffers}
    return replace(work, params=work.memory["other"], buffers=work.memory["other_buffers"], memory=memory)
