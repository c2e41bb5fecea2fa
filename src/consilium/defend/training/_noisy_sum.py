"""DP-SGD's rule: each step releases (sum of clipped per-example gradients + N(0, (sigma C)^2)) / B.

A step's sample takes every record by an independent coin of probability q = B / n, so its size varies and may be zero;
the denominator is the expected size B, never the realised one, and an empty sample still gets its noise and is charged
(LAWS 6).  A target epsilon fixes sigma per site from its own n and the steps of all rounds (LAWS 7, 8).

Source: Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv 1607.00133.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consilium.core.charge import Charge, Composed, Gaussian, PoissonSampled
from consilium.core.errors import Refused, Unlawful
from consilium.core.gradient import Batch, Gradient, GradientOracle, GradientRule, Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.learn.augment import units_of_rows
from consilium.learn.per_example import clipped_sum
from consilium.measure import privacy

from ._one_by_one import refuse_mixing

__all__ = ["NoisySum"]


@dataclass(frozen=True)
class NoisySum(GradientRule):
    """Poisson sampling, clipping per example, Gaussian noise.  One of ``epsilon`` and ``sigma`` is given.

    ``batch`` is the expected batch, None for the federation's; ``chunk`` is how many per-example gradients are held at
    once and changes nothing but speed.
    """

    epsilon: float | None
    sigma: float | None
    clip: float
    delta: float = 1e-5
    batch: int | None = None
    chunk: int | None = None

    def schedule(self, asked: Schedule) -> Schedule:
        """``asked`` with this rule's own batch, if it has one."""
        if self.batch is None or self.batch == asked.batch:
            return asked
        if asked.batch == 0:
            raise Unlawful(
                f"all records are asked for in every step, and dp-sgd in batches of {self.batch}",
                remedy="leave out dp-sgd.batch, or use an algorithm and a federation.batch that take batches",
            )
        return replace(asked, batch=self.batch)

    def rate(self, n: int, schedule: Schedule) -> float:
        """The sampling rate q = B / n of a site with ``n`` records; refused where B > n or delta >= 1/n (LAWS 7)."""
        batch = self.schedule(schedule).batch or n
        if n < max(1, batch):
            raise Unlawful(
                f"{n} training records are fewer than the expected batch of {batch} (LAWS 7)",
                remedy=f"use a batch of at most {n}, or give this site more records",
            )
        if self.delta * n >= 1:
            raise Unlawful(
                f"delta = {self.delta:g} is not below 1/n = {1 / n:g} for {n} training records (LAWS 7)",
                remedy=f"use a delta below {1 / n:.1g}, such as {0.1 / n:.1g}",
            )
        return batch / n

    def noise_multiplier(self, n: int, schedule: Schedule) -> float:
        """Sigma at a site with ``n`` records: as given, or the least that keeps all rounds within the target."""
        rate = self.rate(n, schedule)
        if self.sigma is not None:
            return self.sigma
        if self.epsilon is None:
            raise Refused("dp-sgd needs epsilon or noise-multiplier", remedy="give one of them")
        steps = schedule.rounds * self.schedule(schedule).steps(n)
        return privacy.noise_multiplier(self.epsilon, self.delta, rate, steps)

    def step_charge(self, n: int, schedule: Schedule) -> Charge:
        """A Poisson-sampled Gaussian."""
        return PoissonSampled(self.rate(n, schedule), Gaussian(self.noise_multiplier(n, schedule)))

    def refuse(self, network: Network, shape: tuple[int, ...]) -> None:
        """Refuse a network that mixes examples or keeps statistics of them, for inputs of ``shape`` (LAWS 5)."""
        refuse_mixing(network, shape)

    def oracle(
        self, records: Records, network: Network, objective: Objective, schedule: Schedule, stream: Stream
    ) -> GradientOracle:
        """One round's private steps over ``records``."""
        self.refuse(network, tuple(records.x.shape[1:]))
        return _NoisyOracle(self, records, network, objective, self.schedule(schedule), stream)


class _NoisyOracle(GradientOracle):
    """Draws a sample, clips, sums, adds noise; counts every call."""

    def __init__(
        self,
        rule: NoisySum,
        records: Records,
        network: Network,
        objective: Objective,
        schedule: Schedule,
        stream: Stream,
    ) -> None:
        self.rule, self.records, self.network, self.objective, self.stream = rule, records, network, objective, stream
        n = len(records)
        self.rate, self.sigma = rule.rate(n, schedule), rule.noise_multiplier(n, schedule)
        self.batch, self.steps = schedule.batch or n, schedule.steps(n)
        self._done = 0

    def __call__(self, params: Tensor, buffers: Tensor) -> Gradient:
        """The noisy sum of the next sample over the expected batch; the buffers stay as they are."""
        own = self.stream.child("step", self._done)
        self._done += 1
        total = self._sum(params, buffers, own)
        noisy = own.child("noise").noised(total, self.sigma * self.rule.clip)
        return Gradient(noisy / self.batch, buffers)

    def charge(self) -> Charge:
        """One Poisson-sampled Gaussian per call made."""
        return Composed(PoissonSampled(self.rate, Gaussian(self.sigma)), self._done)

    def _sum(self, params: Tensor, buffers: Tensor, own: Stream) -> Tensor:
        """The clipped sum ``(d,)`` over a fresh sample: what one record changes by at most C."""
        batch = self._batch(params.detach(), buffers, own)
        if batch is None:
            return torch.zeros_like(params)
        with scoped(own.child("forward")):
            return clipped_sum(
                self.network, params, buffers, self.objective, batch, self.rule.clip, self.rule.chunk,
                unit=units_of_rows(batch, None),
            )  # fmt: skip

    def _batch(self, params: Tensor, buffers: Tensor, own: Stream) -> Batch | None:
        """A sample, prepared in evaluation mode where no example sees another; None if it is empty."""
        index = torch.nonzero(own.child("sample").coins(len(self.records), self.rate))[:, 0]
        if not len(index):
            return None
        x, y = self.records.x[index].to(params.device), self.records.y[index].to(params.device)
        return self.objective.prepare(
            lambda inputs: self.network.logits(params, buffers, inputs), x, y, own.child("prepare").generator()
        )
