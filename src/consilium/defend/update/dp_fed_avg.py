"""DP-FedAvg: each site's whole update is cut to length C, and the server adds noise of z C to the sum.

    at the site   u <- u min(1, C / ||u||)          over all that is sent; again at the server, for every site (LAWS 4)
    the server    (sum u + N(0, (z C)^2)) / m       m sites expected, every site counts once (LAWS 15)

The claim is of a site: one hospital more or less changes little of the model, for any recipient of it.  The server
is trusted: it reads each update.  A round counts amplification by sampling only where every site is sampled
independently (Poisson).  With few sites the noise destroys the model too: such studies are refused with their epsilon.

Source: McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, arXiv 1710.06963; the moving
clip: Andrew et al. 2021, Differentially Private Learning with Adaptive Clipping, arXiv 1905.03871
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from consilium.core.charge import Charge, Gaussian, PoissonSampled, of_unit
from consilium.core.defence import MergeDefence, Promise, UpdateDefence
from consilium.core.entry import check, check_used
from consilium.core.errors import Refused, Unlawful
from consilium.core.merge import Aggregator, Cohort
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.rounding import round_down, round_up
from consilium.core.threat import Aim
from consilium.core.update import Payload, Update
from consilium.learn.user_code.custom_code import group_norm
from consilium.measure.accounting import noise_calibration, privacy

from ._central_noise import CLIP, INSIDE, CentralNoise, Quantile, noise_of_the_sum

__all__ = ["DPFedAvg"]

_BOUNDED = {"delta", "control", "buffers"}


@dataclass(frozen=True)
class DPFedAvg(UpdateDefence, MergeDefence):
    """Bounds every site's update and noises their sum at the server, so that a whole site is differentially private.

    Give ``epsilon``, for all rounds, or ``noise_multiplier``; with both, training stops before the round that would
    overspend.  ``delta`` must be below 1 / number of sites.  ``clip`` is C; with ``quantile`` it follows that quantile
    of the updates' lengths, by steps of ``clip_speed``, from a count with noise of deviation ``count_noise`` (None: a
    twentieth of the expected cohort).  Weights are uniform: a site's number of records does not count.
    """

    per_site: ClassVar[bool] = True
    mitigates: ClassVar[tuple[Aim, ...]] = ("membership", "reconstruction", "poisoning")

    epsilon: float | None = None
    """What all rounds may spend; with `noise-multiplier` too, the budget at which training stops."""
    noise_multiplier: float | None = None
    """Deviation of the noise in units of `clip`; give this, `epsilon`, or both."""
    delta: float = 1e-3
    """Probability with which the bound of epsilon may fail; below 1 / number of sites."""
    clip: float = 1.0
    """Length C to which each update is cut; with `quantile`, that of the first round."""
    adjacency: Literal["add-or-remove-one", "replace-one"] = "add-or-remove-one"
    """How the two data sets differ that must not be told apart: one more or less, or another in its place."""
    quantile: float | None = None
    """Share of the updates that the clip is moved to leave uncut; left out: the clip is fixed."""
    clip_speed: float = 0.2
    """Step of the moving clip, on a logarithmic scale."""
    count_noise: float | None = None
    """Deviation of the noise on the count of uncut updates; left out: a twentieth of the expected cohort."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        if self.epsilon is None and self.noise_multiplier is None:
            raise Refused(
                "dp-fed-avg needs epsilon or noise-multiplier", remedy="give one, or both to stop at a budget"
            )
        for knob in ("epsilon", "noise_multiplier", "clip", "count_noise"):
            value = getattr(self, knob)
            check(value is None or 1e-9 <= value <= 1e9, knob, value, "a positive number, 1e-9 to 1e9")
        check(0 < self.delta < 1, "delta", self.delta, "a probability below 1 / number of sites")
        check(
            self.quantile is None or 0 < self.quantile < 1,
            "quantile",
            self.quantile,
            "a share within 0 and 1, such as 0.5",
        )
        check(0 < self.clip_speed <= 10, "clip_speed", self.clip_speed, "a step above 0, at most 10, such as 0.2")
        check_used(self, "clip_speed", self.quantile is not None, "there is no quantile for the clip to follow")
        if self.quantile is None and self.count_noise is not None:
            raise Refused("count-noise needs a quantile to count for", remedy="set quantile, such as 0.5")

    def made_for(self, network: Network) -> DPFedAvg:
        """This defence; refused for a network with running statistics, which noise makes useless.

        Raises Unlawful: the network has buffers.
        """
        if network.start()[1].numel():
            raise Unlawful(
                "the model's buffers (BatchNorm's running statistics) would be noised into nonsense",
                remedy=group_norm(network.template),
            )
        return self

    def configured_by(self, extra: Payload) -> DPFedAvg:
        """With the clip of this round, where it moves."""
        return replace(self, clip=float(extra[CLIP])) if CLIP in extra else self

    def protect(self, update: Update, memory: Payload, stream: Stream) -> tuple[Update, Payload]:
        """The site half; nothing is kept.

        Raises Unlawful: the payload has another entry than the change of the model.
        """
        for name in update.payload:
            if name not in _BOUNDED:
                raise Unlawful(
                    f"{name} would be cut and noised together with the update, and mean nothing",
                    remedy="use fed-avg, fed-prox, scaffold or a server optimiser such as fed-adam",
                )
        bounded, inside = self._bounded(update)
        if self.quantile is None:
            return bounded, memory
        indicator = torch.full((1,), 0.5 if inside else -0.5, device=update.payload["delta"].device)
        return replace(bounded, payload={**bounded.payload, INSIDE: indicator}), memory

    def enforce(self, update: Update, expected: Mapping[str, tuple[int, ...]]) -> Update:
        """The server half: no update is longer, and every site has weight one."""
        bounded, _ = self._bounded(update)
        if INSIDE not in update.payload:
            return bounded
        return replace(bounded, payload={**bounded.payload, INSIDE: update.payload[INSIDE].clamp(-0.5, 0.5)})

    def merge(self) -> Aggregator:
        """Refused: without a cohort there is no denominator and no noise.

        Raises Refused: always.
        """
        raise Refused("dp-fed-avg was called without the number of expected sites", remedy="use merge_for")

    def merge_for(self, cohort: Cohort, stream: Stream) -> Aggregator:
        """The noisy mean over the expected cohort."""
        return CentralNoise(self.clip, self._noise(cohort), cohort.expected, stream, self._moving(cohort))

    def promise(self, cohort: Cohort) -> Promise:
        """A claim of each site; refused where delta, cohort or clip allow none.

        Raises Unlawful: delta is not below 1/n, or the budget does not cover one round (law 7).
        """
        n = cohort.population
        if self.delta * n >= 1:
            raise Unlawful(
                f"delta = {self.delta:g} is not below 1/n = {round_down(1 / n)} for {n} sites",
                law=7,
                remedy=f"use a delta below {round_down(1 / n)}: with few sites no claim per site means much",
            )
        noise = self._noise(cohort)
        self._check_moving(noise, cohort)
        charge, words = self._charge(cohort, noise)
        rounds = cohort.rounds
        if self.epsilon is not None and self.noise_multiplier is not None:
            rounds = privacy.most_times(charge, rounds, self.epsilon, self.delta, self.adjacency)
        if rounds == 0:
            once = privacy.epsilon([charge], self.delta, self.adjacency).epsilon
            raise Unlawful(
                f"one round costs each site epsilon {round_up(once, 4)}, and the budget is {self.epsilon:g}",
                law=7,
                remedy="use a larger noise-multiplier or epsilon",
            )
        return Promise(charge, self.delta, self.adjacency, words, rounds)

    def _charge(self, cohort: Cohort, noise: float) -> tuple[Charge, str]:
        """The charge of one round for one site, and how sites are sampled, as text."""
        if cohort.sampling == "poisson" and cohort.rate < 1:
            return of_unit("site", PoissonSampled(cohort.rate, Gaussian(noise))), "Poisson sampling of sites"
        if cohort.rate == 1:
            return of_unit("site", Gaussian(noise)), "all sites in every round"
        if self.adjacency != "replace-one":
            raise Unlawful(
                f"a cohort of a fixed number ({cohort.expected:g} of {cohort.population}) is filled up by another site "
                "where one is missing, so the sum moves by twice the clip",
                law=15,
                remedy='set federation.participation.sampling = "poisson", or adjacency = "replace-one" without '
                "amplification",
            )
        return of_unit("site", Gaussian(noise)), "fixed cohorts of sites, no amplification counted"

    def _noise(self, cohort: Cohort) -> float:
        """z: as given, or the least that keeps all rounds within the target."""
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        rate = cohort.rate if cohort.sampling == "poisson" else 1.0
        return noise_calibration.noise_multiplier(self.epsilon or 0.0, self.delta, rate, cohort.rounds, self.adjacency)

    def _moving(self, cohort: Cohort) -> Quantile | None:
        if self.quantile is None:
            return None
        noise = cohort.expected / 20 if self.count_noise is None else self.count_noise
        return Quantile(self.quantile, self.clip_speed, noise)

    def _check_moving(self, noise: float, cohort: Cohort) -> None:
        moving = self._moving(cohort)
        if moving is not None and noise_of_the_sum(noise, moving.noise) == float("inf"):
            raise Unlawful(
                f"counting with noise {moving.noise:g} alone costs as much as a noise multiplier of "
                f"{round_up(2 * moving.noise, 4)}, and sum and count together may cost no more than {noise:g} does",
                law=9,
                remedy=f"use a count-noise above {round_up(noise / 2, 4)}, more sites in a round, or a fixed clip",
            )

    def _bounded(self, update: Update) -> tuple[Update, bool]:
        """Never longer than ``clip`` over all that is sent, the same bits if it was not; and whether it was not."""
        squares = 0.0
        for name, tensor in update.payload.items():
            if not tensor.isfinite().all():
                raise Refused(f"the update's {name} is not finite", remedy="leave this site out", where=update.site)
            if name != INSIDE:
                squares += float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
        if squares <= self.clip**2:
            return update, True
        # A hair shorter than the clip, so that rounding cannot leave it longer: twice is the same as once.
        scale = self.clip / squares**0.5 * (1 - 1e-6)
        cut = {name: tensor if name == INSIDE else tensor * scale for name, tensor in update.payload.items()}
        return replace(update, payload=cut), False
