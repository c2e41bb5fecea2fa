"""A charge records what a mechanism DID to private data; `measure.privacy` says what that costs.

A frozen ledger in the manner of dp-accounting's events: kinds are never removed and never change their meaning, and an
accountant refuses a kind that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Charge", "Composed", "Gaussian", "PoissonSampled", "RandomisedResponse"]


@dataclass(frozen=True)
class Charge:
    """Abstract base of what can stand in a ledger."""


@dataclass(frozen=True)
class Gaussian(Charge):
    """A sum with sensitivity C released with Gaussian noise of standard deviation ``noise_multiplier`` * C."""

    noise_multiplier: float


@dataclass(frozen=True)
class PoissonSampled(Charge):
    """``inner`` run on a sample into which every unit came by an independent coin of probability ``rate``."""

    rate: float
    inner: Charge


@dataclass(frozen=True)
class Composed(Charge):
    """``inner`` run ``count`` times, adaptively."""

    inner: Charge
    count: int


@dataclass(frozen=True)
class RandomisedResponse(Charge):
    """A label of ``categories`` values, kept with probability e^eps / (e^eps + categories - 1); drawn once."""

    epsilon: float
    categories: int
