"""Membership by pairwise likelihood ratios: does the model favour this record more than it favours the population?

    ratio(x) = p(y | x; model) / Pr(x)        score(x) = share of population records z with ratio(x) >= gamma ratio(z)
    online     Pr(x) = (mean over shadows with x + mean over shadows without it) / 2
    offline    Pr(x) = ((1 + a) mean over shadows without x + (1 - a)) / 2

z are records that the adversary knows to be out of the model: the calibration half's non-members, at most
``population`` of them.  ``a`` is how much more probable a record is to models trained on it; 0 takes them to be certain
of it, 1 to answer no better than the others.

Source: Zarifzadeh, Liu and Shokri 2024, Low-Cost High-Power Membership Inference Attacks, arXiv 2312.03262.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from consilium.core.attack import Attack
from consilium.core.entry import check, check_used
from consilium.core.errors import Refused
from consilium.core.finding import Finding
from consilium.core.threat import RetrainView, ThreatModel
from consilium.core.update import Payload

from ._judged import judged
from ._ratios import favour, share_below
from ._shadow_scores import check_shadows, likelihoods

__all__ = ["RMIA"]


@dataclass(frozen=True)
class RMIA(Attack[RetrainView]):
    """Compares how much the model favours each record, against shadows, with how much it favours the population."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[RetrainView]] = RetrainView
    shadows: int = 32
    """Models that are trained like the one attacked, each on a random half of the records: 2 to 4096."""
    mode: Literal["online", "offline"] = "online"
    """Whether shadows with the record are compared too (online), or only those without it (offline)."""
    gamma: float = 1.0
    """By what factor a record's ratio must exceed a population record's to count."""
    a: float = 0.3
    """How much more probable a record is to models trained on it, offline: 0 certain of it, 1 no better."""
    population: int = 10_000
    """Most records, known to be no members, that each record is compared with."""

    def __post_init__(self) -> None:
        check_shadows(self.shadows)
        check(self.gamma > 0, "gamma", self.gamma, "a ratio above 0")
        check(0 <= self.a <= 1, "a", self.a, "0 to 1")
        check_used(self, "a", self.mode == "offline", 'mode = "online"')
        check(self.population >= 1, "population", self.population, "1 record or more")

    def retrains(self) -> int:
        """The entry's parameter ``shadows``."""
        return self.shadows

    def run(self, view: RetrainView, memory: Payload, generator: torch.Generator) -> Finding:
        """One query per candidate.  Scores: ``score``, ``member``, ``known`` (n,).

        Raises Refused: too few known non-members for a population.
        """
        records = view.candidates
        out = torch.nonzero(view.known & ~view.member)[:, 0]
        if not len(out):
            reason = "the calibration half has no non-members to be the population"
            raise Refused(reason, remedy="hold more records out: data.non-members = 0.2")
        x, y = records.x, records.y
        target = likelihoods(view.ask, x, y, view.task).exp()
        answers, inside = [], []
        for shadow in view.shadows(self.shadows):
            answers.append(likelihoods(shadow.module, x, y, view.task).exp())
            inside.append(shadow.included[view.at])
        a = self.a if self.mode == "offline" else None
        ratio = favour(target, torch.stack(answers), torch.stack(inside), a)
        sample = torch.randperm(len(out), generator=generator)[: self.population]
        return judged(share_below(ratio, ratio[out[sample]], self.gamma), view, generator)
