"""DP-SGD's rule: each step releases (sum of clipped gradients, one a unit, + N(0, (sigma C)^2)) / B.

A unit is a record, or a patient: then the gradient is that of the mean loss of all her records.  A step's sample takes
every unit by an independent coin of probability q = B / n, so its size varies and may be zero; the denominator is the
expected size B, never the realised one, and an empty sample still gets its noise and is charged (LAWS 6).  A target
epsilon fixes sigma per site from its own n and the steps of all rounds (LAWS 7, 8); with a sigma given as well, it is a
budget, and bounds the rounds.

Source: Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv 1607.00133; McMahan et al. 2018, arXiv
1710.06963 (whole users sampled and clipped).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from consilium.core.charge import Adjacency, Charge, Composed, Gaussian, PoissonSampled, Unit, of_unit
from consilium.core.errors import Refused, Unlawful
from consilium.core.gradient import Batch, Gradient, GradientOracle, GradientRule, Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.learn.augment import units_of_rows
from consilium.learn.per_example import Style, clipped_sum
from consilium.measure import privacy

from ._one_by_one import refuse_mixing

__all__ = ["NoisySum"]


@dataclass(frozen=True)
class NoisySum(GradientRule):
    """Poisson sampling, clipping per unit, Gaussian noise.  ``epsilon`` or ``sigma`` is given, or both: a budget.

    ``batch`` is the expected batch in units, None for the federation's; ``chunk`` is how many gradients are held at
    once and changes nothing but speed; ``style`` is how a gradient is clipped to length ``clip``; what was
    released is multiplied by ``scale``.
    """

    epsilon: float | None
    sigma: float | None
    clip: float
    delta: float = 1e-5
    batch: int | None = None
    chunk: int | None = None
    unit: Unit = "example"
    adjacency: Adjacency = "add-or-remove-one"
    style: Style = "flat"
    scale: float = 1.0

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
        """The sampling rate q = B / n of a site with ``n`` units; refused where B > n or delta >= 1/n (LAWS 7)."""
        batch, them = self.schedule(schedule).batch or n, _PLURAL[self.unit]
        if n < max(1, batch):
            raise Unlawful(
                f"{n} training {them} are fewer than the expected batch of {batch} (LAWS 7)",
                remedy=f"use a batch of at most {n}, or give this site more {them}",
            )
        if self.delta * n >= 1:
            raise Unlawful(
                f"delta = {self.delta:g} is not below 1/n = {1 / n:g} for {n} training {them} (LAWS 7)",
                remedy=f"use a delta below {1 / n:.1g}, such as {0.1 / n:.1g}",
            )
        return batch / n

    def noise_multiplier(self, n: int, schedule: Schedule) -> float:
        """Sigma at a site with ``n`` units: as given, or the least that keeps all rounds within the target."""
        rate = self.rate(n, schedule)
        if self.sigma is not None:
            return self.sigma
        if self.epsilon is None:
            raise Refused("dp-sgd needs epsilon or noise-multiplier", remedy="give one of them")
        steps = schedule.rounds * self.schedule(schedule).steps(n)
        return privacy.noise_multiplier(self.epsilon, self.delta, rate, steps, self.adjacency)

    def step_charge(self, n: int, schedule: Schedule) -> Charge:
        """A Poisson-sampled Gaussian, per unit."""
        return self.charged(self.rate(n, schedule), self.noise_multiplier(n, schedule))

    def charged(self, rate: float, sigma: float) -> Charge:
        """What one step at ``rate`` with noise of ``sigma`` does."""
        return of_unit(self.unit, PoissonSampled(rate, Gaussian(sigma)))

    def most_rounds(self, n: int, schedule: Schedule) -> int:
        """All rounds, or as many as the budget allows; refused if that is none."""
        if self.epsilon is None or self.sigma is None:
            return schedule.rounds
        steps, step = self.schedule(schedule).steps(n), self.step_charge(n, schedule)
        most = privacy.most_times(Composed(step, steps), schedule.rounds, self.epsilon, self.delta, self.adjacency)
        if most == 0:
            once = privacy.epsilon([Composed(step, steps)], self.delta, self.adjacency).epsilon
            needed = privacy.noise_multiplier(
                self.epsilon, self.delta, self.rate(n, schedule), schedule.rounds * steps, self.adjacency
            )
            raise Unlawful(
                f"one round of {steps} steps costs epsilon {once:.6g}, and the budget is {self.epsilon:g} (LAWS 7)",
                remedy=f"use a noise-multiplier of {needed:g} for all {schedule.rounds} rounds, or a larger epsilon",
            )
        return most

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
        self.owner = None if rule.unit == "example" else torch.unique(records.units, return_inverse=True)[1]
        n = rule.count(records)
        self.rate, self.sigma = rule.rate(n, schedule), rule.noise_multiplier(n, schedule)
        self.units, self.batch, self.steps = n, schedule.batch or n, schedule.steps(n)
        self._done = 0

    def __call__(self, params: Tensor, buffers: Tensor) -> Gradient:
        """The noisy sum of the next sample over the expected batch; the buffers stay as they are."""
        own = self.stream.child("step", self._done)
        self._done += 1
        total = self._sum(params, buffers, own)
        noisy = own.child("noise").noised(total, self.sigma * self.rule.clip)
        return Gradient(noisy * (self.rule.scale / self.batch), buffers)

    def charge(self) -> Charge:
        """One Poisson-sampled Gaussian per call made."""
        return Composed(self.rule.charged(self.rate, self.sigma), self._done)

    def _sum(self, params: Tensor, buffers: Tensor, own: Stream) -> Tensor:
        """The clipped sum ``(d,)`` over a fresh sample: what one unit changes by at most C."""
        index = self._sample(own.child("sample"))
        if not len(index):
            return torch.zeros_like(params)
        batch = self._batch(index, params.detach(), buffers, own)
        unit = None if self.owner is None else self.owner[index].to(params.device)
        with scoped(own.child("forward")):
            return clipped_sum(
                self.network, params, buffers, self.objective, batch, self.rule.clip, self.rule.chunk,
                style=self.rule.style, unit=units_of_rows(batch, unit),
            )  # fmt: skip

    def _sample(self, stream: Stream) -> Tensor:
        """The positions ``(m,)`` of the sampled records: all of a unit's or none."""
        drawn = stream.coins(self.units, self.rate)
        return torch.nonzero(drawn if self.owner is None else drawn[self.owner])[:, 0]

    def _batch(self, index: Tensor, params: Tensor, buffers: Tensor, own: Stream) -> Batch:
        """The sample, prepared in evaluation mode where no example sees another."""
        x, y = self.records.x[index].to(params.device), self.records.y[index].to(params.device)
        return self.objective.prepare(
            lambda inputs: self.network.logits(params, buffers, inputs), x, y, own.child("prepare").generator()
        )


_PLURAL: dict[Unit, Literal["records", "patients", "sites"]] = {
    "example": "records",
    "patient": "patients",
    "site": "sites",
}
