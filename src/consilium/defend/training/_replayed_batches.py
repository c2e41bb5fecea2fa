"""Each batch m times in a row, with a perturbation that one backward pass updates together with the weights.

    g_w, g_x = grad of mean_i loss(w; x_i + d_i, y_i) in w and in x;    d_i <- P(d_i + radius u(g_x,i));    w by g_w

d begins at 0 with each batch and is carried over its m replays alone.  A round has as many steps as without replays, so
it sees 1 / m of the batches and costs what plain training does.

Source: Shafahi et al. 2019, Adversarial Training for Free!, arXiv 1904.12843 (algorithm 1; there d goes on to the next
batch, so that a record meets what was crafted on another one)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.gradient import Batch, Gradient, GradientOracle, GradientRule, Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.learn.mean_gradient import shuffled
from consilium.learn.perturbation.ball import Ball

__all__ = ["ReplayedBatches"]


@dataclass(frozen=True)
class ReplayedBatches(GradientRule):
    """The mean over shuffled batches, each perturbed within ``ball`` and replayed ``replays`` times; no guarantee."""

    ball: Ball
    replays: int

    def schedule(self, schedule: Schedule) -> Schedule:
        """``schedule`` unchanged: as many steps, of fewer batches."""
        return schedule

    def step_charge(self, n: int, schedule: Schedule) -> None:
        """None: no guarantee is claimed."""

    def oracle(
        self, records: Records, network: Network, objective: Objective, schedule: Schedule, stream: Stream
    ) -> GradientOracle:
        """One round's replays."""
        return _ReplayOracle(self, records, network, objective, schedule, stream)


class _ReplayOracle(GradientOracle):
    """Replays a batch, moving its perturbation at every call."""

    def __init__(
        self,
        rule: ReplayedBatches,
        records: Records,
        network: Network,
        objective: Objective,
        schedule: Schedule,
        stream: Stream,
    ) -> None:
        self.rule, self.records, self.network, self.objective, self.stream = rule, records, network, objective, stream
        self._batches = shuffled(len(records), schedule, stream)
        self.steps, self._done = len(self._batches), 0
        self._batch: Batch = {}
        self._moved = torch.zeros(0)

    def __call__(self, params: Tensor, buffers: Tensor) -> Gradient:
        """The mean gradient at the perturbed batch, which moves on for its next replay."""
        number, replay = divmod(self._done, self.rule.replays)
        stream = self.stream.child("step", self._done)
        self._done += 1
        if replay == 0:
            self._begin(self._batches[number], params, buffers, stream)
        point = self._moved.detach().requires_grad_(True)
        batch = {**self._batch, "x": point}
        with scoped(stream.child("forward")):
            value, after, (rise,) = self.network.workspace.joint_gradient(
                params, buffers, lambda predict: self.objective.losses(predict, batch).mean(), point
            )
        self._move(rise)
        return Gradient(value, after)

    def charge(self) -> None:
        """None: no guarantee is claimed."""

    def _begin(self, index: Tensor, params: Tensor, buffers: Tensor, stream: Stream) -> None:
        x, y = (t[index].to(params.device) for t in (self.records.x, self.records.y))
        self._batch = self.objective.prepare(
            self.network.still_at(params, buffers), x, y, stream.child("prepare").generator()
        )
        self._moved = self._batch["x"]

    def _move(self, rise: Tensor) -> None:
        ball = self.rule.ball
        further = self._moved + ball.radius * ball.steepest(torch.nan_to_num(rise), self._moved)
        self._moved = ball.project(further, self._batch["x"])
