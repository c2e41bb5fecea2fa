"""A charge records what a mechanism DID to private data; `measure.accounting.privacy` computes its cost.

A frozen ledger in the manner of dp-accounting's events: kinds are never removed and never change their meaning, and an
accountant refuses a kind that it does not know.  A charge names the *unit* by which a sample is drawn and a sum clipped
(one record, unless ``PerUnit`` says otherwise).  *Adjacency* is not part of it: the same mechanism is accounted for
under either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Adjacency",
    "Charge",
    "Composed",
    "Gaussian",
    "PerUnit",
    "PoissonSampled",
    "RandomisedResponse",
    "Unit",
    "of_unit",
]

Unit = Literal["example", "patient", "site"]
"""Whom a claim protects: one record, all records of one patient, or all that one site contributes."""

Adjacency = Literal["add-or-remove-one", "replace-one"]
"""How two data sets differ in one unit: it is there or not, or it is another one (their number is the same)."""


@dataclass(frozen=True)
class Charge:
    """Abstract base of what can stand in a ledger."""


@dataclass(frozen=True)
class Gaussian(Charge):
    """A sum with sensitivity C released with Gaussian noise of standard deviation ``noise_multiplier`` * C."""

    noise_multiplier: float


@dataclass(frozen=True)
class PoissonSampled(Charge):
    """``inner`` run on a Poisson sample: every unit is included independently with probability ``rate``."""

    rate: float
    inner: Charge


@dataclass(frozen=True)
class Composed(Charge):
    """``inner`` run ``count`` times, adaptively."""

    inner: Charge
    count: int


@dataclass(frozen=True)
class PerUnit(Charge):
    """``inner`` done to whole units: each is in a sample with all that it has or not at all, and is clipped as one.

    A charge without this wrapper applies to single records.  It is a kind of its own so that code that does not know it
    refuses it, and never reads a patient's charge as an example's.
    """

    unit: Unit
    inner: Charge


@dataclass(frozen=True)
class RandomisedResponse(Charge):
    """A label of ``categories`` values, kept with probability e^eps / (e^eps + categories - 1); drawn once."""

    epsilon: float
    categories: int


def of_unit(unit: Unit, charge: Charge) -> Charge:
    """``charge`` applied to ``unit``; for a record it is unchanged."""
    return charge if unit == "example" else PerUnit(unit, charge)
