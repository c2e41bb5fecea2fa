"""Which sites take part in a round: they join late, are absent, are sampled, drop out, miss the deadline.

    joined -> available (a coin per site and round) -> sampled (max(1, C K) of those, or a coin of rate C each)
    sampled -> all work -> dropped (sends nothing) | late (misses the deadline, or does a share of its steps) | arrives

Every draw is a pure function of (seed, round) or (seed, site, round) and of no record, so a resumed training meets the
same absences.  A site that worked has paid, whether or not its update arrived.

Source: McMahan et al. 2017, arXiv:1602.05629 (cohorts); Li et al. 2020, arXiv:1812.06127, section 5.2 (stragglers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import ConfigDict
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.plain import Json
from consilium.core.random import Stream

__all__ = ["Attendance", "Participation"]


@dataclass(frozen=True)
class Attendance:
    """One round's cohort, in the order of the roster, and those who had joined and were away."""

    cohort: tuple[str, ...]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Participation:
    """Shares and chances; with the defaults every sampled site works and arrives.

    ``sampling``: a fixed number of the available sites, or an independent coin for each.  ``availability``,
    ``dropout`` and ``stragglers`` are probabilities per site and round.  A straggler does ``straggler-work`` of its
    local steps, rounded up; with 0 it does all of them and misses the deadline.  A share ``late-joiners`` of the sites
    exists from round ``join-round`` on.  A round with fewer than ``minimum-cohort`` usable updates changes no model.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid", "allow_inf_nan": False}
    sampling: Literal["fixed", "poisson"] = "fixed"
    availability: float = 1.0
    dropout: float = 0.0
    stragglers: float = 0.0
    straggler_work: float = 0.0
    late_joiners: float = 0.0
    join_round: int = 1
    minimum_cohort: int = 1

    def __post_init__(self) -> None:
        check(0 < self.availability <= 1, "availability", self.availability, "a probability above 0, at most 1")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "a probability of at least 0, below 1")
        check(0 <= self.stragglers <= 1, "stragglers", self.stragglers, "a probability from 0 to 1")
        check(0 <= self.straggler_work < 1, "straggler-work", self.straggler_work, "a share of at least 0, below 1")
        check(0 <= self.late_joiners < 1, "late-joiners", self.late_joiners, "a share of at least 0, below 1")
        check(self.join_round >= 1, "join-round", self.join_round, "round 1 or a later one")
        check(self.minimum_cohort >= 1, "minimum-cohort", self.minimum_cohort, "1 update or more")
        self._check_pairs()

    def attendance(self, roster: tuple[str, ...], fraction: float, number: int, stream: Stream) -> Attendance:
        """The cohort of round ``number``; ``fraction`` C is of the sites that have joined by then."""
        joined = self._joined(len(roster), number, stream)
        here = joined & self._coins(len(roster), self.availability, stream.child("available", number))
        able = here.nonzero().flatten()
        if self.sampling == "poisson":
            cohort = able[self._coins(len(able), fraction, stream.child("cohort", number))]
        else:
            size = max(1, round(fraction * int(joined.sum())))
            cohort = able[torch.randperm(len(able), generator=stream.child("cohort", number).generator())[:size]]
        away = (joined & ~here).nonzero().flatten()
        return Attendance(tuple(roster[i] for i in sorted(cohort.tolist())), tuple(roster[i] for i in away.tolist()))

    def drops(self, site: str, number: int, stream: Stream) -> bool:
        """True if ``site`` works in round ``number`` and sends nothing."""
        return self._coin(self.dropout, stream.child("dropout", site, number))

    def misses(self, site: str, number: int, stream: Stream) -> bool:
        """True if the update of ``site`` arrives after the deadline."""
        return self.straggler_work == 0 and self.lags(site, number, stream)

    def lags(self, site: str, number: int, stream: Stream) -> bool:
        """True if ``site`` is slow in round ``number``."""
        return self._coin(self.stragglers, stream.child("straggler", site, number))

    def steps(self, planned: int, site: str, number: int, stream: Stream) -> int:
        """The local steps that ``site`` does of those ``planned``: all, or a straggler's share; never more."""
        if self.straggler_work == 0 or not self.lags(site, number, stream):
            return planned
        return min(planned, math.ceil(self.straggler_work * planned))

    def most(self, sites: int, fraction: float) -> int:
        """The most updates that a round can bring; a ``minimum-cohort`` above it would abort every one."""
        return sites if self.sampling == "poisson" else max(1, round(fraction * sites))

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        return {name.replace("_", "-"): value for name, value in vars(self).items()}

    def _check_pairs(self) -> None:
        """Refuse a knob that could have no effect."""
        if self.straggler_work > 0 and self.stragglers == 0:
            raise Refused("there are no stragglers to do it", remedy="set stragglers above 0", where="straggler-work")
        if (self.late_joiners > 0) != (self.join_round > 1):
            raise Refused(
                "late joiners need both a share and a round after the first",
                remedy="set late-joiners above 0 and join-round to 2 or later",
                where="join-round" if self.late_joiners > 0 else "late-joiners",
            )

    def _joined(self, sites: int, number: int, stream: Stream) -> Tensor:
        """``(sites,)`` bool; late sites are drawn once for the whole training, and at least one is not late."""
        joined = torch.ones(sites, dtype=torch.bool)
        late = min(round(self.late_joiners * sites), sites - 1)
        if late and number < self.join_round:
            order = torch.randperm(sites, generator=stream.child("late-joiners").generator())
            joined[order[:late]] = False
        return joined

    @staticmethod
    def _coins(count: int, chance: float, stream: Stream) -> Tensor:
        if chance >= 1:
            return torch.ones(count, dtype=torch.bool)
        return torch.rand(count, generator=stream.generator(), dtype=torch.float64) < chance

    @classmethod
    def _coin(cls, chance: float, stream: Stream) -> bool:
        return chance > 0 and bool(cls._coins(1, chance, stream)[0])
