"""DP-SGD's rule: each step releases (sum of clipped gradients, one a unit, + N(0, (sigma C)^2)) / B.

A unit is a record, or a patient: then the gradient is that of the mean loss of all the patient's records.  A Poisson
batch takes every unit by an independent coin of probability q = B / n, so its size varies and may be zero; the
denominator is the expected size B, never the realised one, and an empty batch still gets its noise and is charged (LAWS
6).  A target epsilon fixes sigma per site from its own n and the steps of all rounds (LAWS 7, 8); with a sigma given as
well, it is a budget, and bounds the rounds.  How batches are selected and which noise is added are parameters
(``core.mechanism``).

Source: Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv 1607.00133; McMahan et al. 2018, arXiv
1710.06963 (whole users sampled and clipped).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from consilium.core.charge import Adjacency, Charge, Composed, Gaussian, PoissonSampled, Unit, of_unit
from consilium.core.errors import Refused, Unlawful
from consilium.core.gradient import Batch, Gradient, GradientOracle, GradientRule, Objective, Schedule
from consilium.core.mechanism import BatchSelection, NoiseMechanism
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.core.rounding import round_down, round_up
from consilium.core.update import Payload
from consilium.learn.augment import units_of_rows
from consilium.learn.per_example import ClippedSum, ClippingStyle, clipped_sum
from consilium.measure.accounting import noise_calibration, privacy

from ._example_mixing import refuse_mixing

__all__ = ["DPSGDRule", "GaussianNoise", "PoissonSelection"]


@dataclass(frozen=True)
class PoissonSelection(BatchSelection):
    """Every unit by an independent coin of probability B / n."""

    def select(self, n: int, batch: int, stream: Stream, memory: Payload) -> tuple[Tensor, Payload]:
        """One coin a unit ``(n,)``; nothing is remembered."""
        return stream.coins(n, batch / n), memory

    def expected(self, n: int, batch: int) -> float:
        """B."""
        return batch

    def charge(self, n: int, batch: int, release: Charge) -> Charge:
        """``release`` on a Poisson sample of rate B / n."""
        return PoissonSampled(batch / n, release)


@dataclass(frozen=True)
class GaussianNoise(NoiseMechanism):
    """Independent Gaussian noise in every step."""

    def noised(self, value: Tensor, deviation: float, stream: Stream, memory: Payload) -> tuple[Tensor, Payload]:
        """``value + N(0, deviation^2)``; nothing is remembered."""
        return stream.noised(value, deviation), memory

    def charge(self, multiplier: float, steps: range, selected: Callable[[Charge], Charge]) -> Charge:
        """A Gaussian for each step."""
        return Composed(selected(Gaussian(multiplier)), len(steps))


@dataclass(frozen=True)
class DPSGDRule(GradientRule):
    """Selects a batch, clips per unit, adds noise.  ``epsilon`` or ``sigma`` is given, or both: a budget.

    ``batch`` is the expected batch in units, None for the federation's; ``chunk`` is how many gradients are held at
    once and changes nothing but speed; ``style`` is how a gradient is clipped to length ``clip``; what was
    released is multiplied by ``scale``.

    Guarantee: all gradients of a site over all rounds together are (epsilon, ``delta``)-differentially private per
    ``unit`` under ``adjacency``, with the epsilon that ``measure.privacy`` computes of :meth:`charge`, for a network
    and an objective that keep examples apart (:meth:`refuse`).  The number of units is public under add-or-remove-one.
    """

    epsilon: float | None
    sigma: float | None
    clip: float
    delta: float = 1e-5
    batch: int | None = None
    chunk: int | None = None
    unit: Unit = "example"
    adjacency: Adjacency = "add-or-remove-one"
    style: ClippingStyle = "flat"
    scale: float = 1.0
    selection: BatchSelection = PoissonSelection()
    noise: NoiseMechanism = GaussianNoise()

    def __post_init__(self) -> None:
        if self.adjacency not in self.selection.adjacencies:
            raise Unlawful(
                f"what {type(self.selection).__name__} charges does not hold under {self.adjacency}",
                remedy=f"use adjacency = {' or '.join(sorted(self.selection.adjacencies))}",
            )

    @property
    def sampler(self) -> str:
        """The description of the batch selection."""
        return self.selection.words

    def schedule(self, schedule: Schedule) -> Schedule:
        """``schedule`` with this rule's own batch, if it has one.

        Raises Unlawful: the study sets all records per step, and dp-sgd a batch.
        """
        if self.batch is None or self.batch == schedule.batch:
            return schedule
        if schedule.batch == 0:
            raise Unlawful(
                f"the study asks for all records in every step, dp-sgd for batches of {self.batch}",
                remedy="leave out dp-sgd.batch, or use an algorithm and a federation.batch that take batches",
            )
        return replace(schedule, batch=self.batch)

    def batch_of(self, n: int, schedule: Schedule) -> int:
        """The batch B at a site with ``n`` units; refused where B > n or delta >= 1/n (LAWS 7).

        Raises Unlawful: fewer units than the batch, or delta not below 1/n (law 7).
        """
        batch, them = self.schedule(schedule).batch or n, _PLURAL[self.unit]
        if n < max(1, batch):
            raise Unlawful(
                f"{n} training {them} are fewer than the expected batch of {batch}",
                law=7,
                remedy=f"use a batch of at most {n}, or give this site more {them}",
            )
        if self.delta * n >= 1:
            raise Unlawful(
                f"delta = {self.delta:g} is not below 1/n = {round_down(1 / n)} for {n} training {them}",
                law=7,
                remedy=f"use a delta below {round_down(1 / n)}, such as {round_down(0.1 / n, 1)}",
            )
        return batch

    def noise_multiplier(self, n: int, schedule: Schedule) -> float:
        """Sigma at a site with ``n`` units: as given, or the least that keeps all rounds within the target.

        It is the deviation of the noise over the sum's sensitivity under add-or-remove-one, whatever ``adjacency`` is:
        under replace-one the same deviation costs a larger epsilon, so a target needs a larger sigma.

        Raises Refused: neither epsilon nor noise-multiplier is set.
        """
        self.batch_of(n, schedule)
        if self.sigma is not None:
            return self.sigma
        if self.epsilon is None:
            raise Refused("dp-sgd needs epsilon or noise-multiplier", remedy="give one of them")
        return _least_multiplier(self, n, schedule)

    def step_charge(self, n: int, schedule: Schedule) -> Charge:
        """Of one step; refused where noise is correlated over steps, which have charges together alone.

        Raises Unlawful: the noise is correlated over the steps.
        """
        if not self.noise.independent:
            raise Unlawful(
                f"{type(self.noise).__name__} correlates the noise of the steps, so a single step has no charge",
                remedy="use the charge of whole rounds",
            )
        one = self.charged(n, self.batch_of(n, schedule), self.noise_multiplier(n, schedule), range(1))
        return one.inner if isinstance(one, Composed) else one

    def charge(self, n: int, schedule: Schedule, rounds: int) -> Charge:
        """Of ``rounds`` full rounds."""
        steps = rounds * self.schedule(schedule).steps(n)
        return self.charged(n, self.batch_of(n, schedule), self.noise_multiplier(n, schedule), range(steps))

    def charged(self, n: int, batch: int, sigma: float, steps: range) -> Charge:
        """What these ``steps``, counted from the first of the training, do with noise of ``sigma``."""
        charge = self.noise.charge(sigma, steps, lambda release: self.selection.charge(n, batch, release))
        if isinstance(charge, Composed):
            return Composed(of_unit(self.unit, charge.inner), charge.count)
        return of_unit(self.unit, charge)

    def most_rounds(self, n: int, schedule: Schedule) -> int:
        """All rounds, or as many as the budget allows; refused if that is none.

        Raises Unlawful: the budget does not cover one round (law 7).
        """
        if self.epsilon is None or self.sigma is None:
            return schedule.rounds
        most = privacy.most_repeats(
            lambda rounds: self.charge(n, schedule, rounds), schedule.rounds, self.epsilon, self.delta, self.adjacency
        )
        if most == 0:
            once = privacy.epsilon([self.charge(n, schedule, 1)], self.delta, self.adjacency).epsilon
            steps, needed = self.schedule(schedule).steps(n), _least_multiplier(self, n, schedule)
            raise Unlawful(
                f"one round of {steps} steps costs epsilon {round_up(once, 6)}, and the budget is {self.epsilon:g}",
                law=7,
                remedy=f"use a noise-multiplier of {round_up(needed, 6)} for all {schedule.rounds} rounds, or a larger "
                "epsilon",
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
        return _PrivateOracle(self, records, network, objective, self.schedule(schedule), stream)


class _PrivateOracle(GradientOracle):
    """Selects a batch, clips, sums, adds noise; counts every call."""

    def __init__(
        self,
        rule: DPSGDRule,
        records: Records,
        network: Network,
        objective: Objective,
        schedule: Schedule,
        stream: Stream,
    ) -> None:
        self.rule, self.records, self.network, self.objective, self.stream = rule, records, network, objective, stream
        self.owner = None if rule.unit == "example" else torch.unique(records.units, return_inverse=True)[1]
        self.units = n = rule.count(records)
        self.batch, self.sigma = rule.batch_of(n, schedule), rule.noise_multiplier(n, schedule)
        self.expected, self.steps = rule.selection.expected(n, self.batch), schedule.steps(n)
        self._before, self._done = 0, 0
        self._selection: Payload = {}
        self._noise: Payload = {}

    def resume(self, memory: Payload) -> None:
        """Go on where the site's last round ended."""
        self._before = int(memory["steps"]) if "steps" in memory else 0
        self._selection, self._noise = _under(memory, "selection/"), _under(memory, "noise/")

    def memory(self) -> Payload:
        """The state of selection and noise, with the steps made so far; empty where both are stateless."""
        named = {f"selection/{name}": tensor for name, tensor in self._selection.items()}
        named |= {f"noise/{name}": tensor for name, tensor in self._noise.items()}
        if not named and self.rule.noise.independent:
            return {}
        return {**named, "steps": torch.tensor(self._before + self._done)}

    def __call__(self, params: Tensor, buffers: Tensor) -> Gradient:
        """The noisy sum of the next batch over its expected size; the buffers stay as they are."""
        stream = self.stream.child("step", self._done)
        self._done += 1
        total = self._sum(params, buffers, stream)
        deviation = self.sigma * total.sensitivity("add-or-remove-one")  # replace-one: see ClippedSum.sensitivity
        noisy, self._noise = self.rule.noise.noised(total.value, deviation, stream.child("noise"), self._noise)
        return Gradient(noisy * (self.rule.scale / self.expected), buffers)

    def charge(self) -> Charge:
        """Of the calls made in this round."""
        steps = range(self._before, self._before + self._done)
        return self.rule.charged(self.units, self.batch, self.sigma, steps)

    def _sum(self, params: Tensor, buffers: Tensor, stream: Stream) -> ClippedSum:
        """The clipped sum ``(d,)`` over a fresh batch."""
        index = self._select(stream.child("sample"))
        if not len(index):
            return ClippedSum(torch.zeros_like(params), self.rule.clip)
        batch = self._batch(index, params.detach(), buffers, stream)
        unit = None if self.owner is None else self.owner[index].to(params.device)
        with scoped(stream.child("forward")):
            return clipped_sum(
                self.network, params, buffers, self.objective, batch, self.rule.clip, self.rule.chunk,
                style=self.rule.style, unit=units_of_rows(batch, unit),
            )  # fmt: skip

    def _select(self, stream: Stream) -> Tensor:
        """The positions ``(m,)`` of the selected records: all of a unit's or none."""
        batch_rows, self._selection = self.rule.selection.select(self.units, self.batch, stream, self._selection)
        return torch.nonzero(batch_rows if self.owner is None else batch_rows[self.owner])[:, 0]

    def _batch(self, index: Tensor, params: Tensor, buffers: Tensor, stream: Stream) -> Batch:
        """The selected records, prepared in evaluation mode, where examples do not interact."""
        x, y = self.records.x[index].to(params.device), self.records.y[index].to(params.device)
        return self.objective.prepare(self.network.still_at(params, buffers), x, y, stream.child("prepare").generator())


@lru_cache(maxsize=4096)
def _least_multiplier(rule: DPSGDRule, n: int, schedule: Schedule) -> float:
    """The least sigma that keeps all rounds of a site with ``n`` units within the rule's epsilon."""
    batch, steps = rule.batch_of(n, schedule), schedule.rounds * rule.schedule(schedule).steps(n)
    return noise_calibration.least_multiplier(
        lambda sigma: rule.charged(n, batch, sigma, range(steps)), rule.epsilon or 0.0, rule.delta, rule.adjacency
    )


def _under(memory: Payload, prefix: str) -> Mapping[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in memory.items() if name.startswith(prefix)}


_PLURAL: dict[Unit, Literal["records", "patients", "sites"]] = {
    "example": "records",
    "patient": "patients",
    "site": "sites",
}
