"""What shadows learn from, and where there can be none.

The pool holds the train and non-member records of the sites that attacks ask about.  A shadow divides each site's
part of it anew into what it trains on and what it does not; validation, test and public records stay what they are.  An
audit's canaries are in no pool, or the pool would tell their coins: those that the target learned from stand in every
shadow, so that it is as large as the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Consortium, Pools, Records, Site
from consilium.core.threat import RetrainView
from consilium.study.spec.arms import Arm
from consilium.study.spec.spec import Spec, TrainedModelSpec, TrainingSpec

__all__ = ["ShadowPool", "check_data", "check_retraining", "refuse_retraining"]


@dataclass(frozen=True, eq=False)
class ShadowPool:
    """What a shadow may learn from: records ``(p,)``, the number of each one's site, and how many each site takes."""

    records: Records
    site: Tensor
    sizes: Tensor
    names: tuple[str, ...]

    @classmethod
    def of(cls, data: Consortium, among: Sequence[str], stream: Stream) -> ShadowPool:
        """Of the sites ``among``; the order of the records says nothing of who was a member.

        Raises Refused: these sites have no non-members.
        """
        sites = [site for site in data.sites if site.id in frozenset(among)]
        if not any(len(site.records.non_members) for site in sites):
            reason = "there are no non-members, so no shadow could leave anything out"
            raise Refused(reason, remedy="hold some out: data.non-members = 0.2")
        parts = [part for site in sites for part in (data.natural(site.records.train), site.records.non_members)]
        at = torch.cat([torch.full((len(part),), i // 2) for i, part in enumerate(parts)])
        order = torch.randperm(len(at), generator=stream.generator())
        sizes = torch.tensor([len(part) for part in parts[::2]])
        return cls(Records.joined(parts).bare().select(order), at[order], sizes, tuple(site.id for site in sites))

    def divided(self, data: Consortium, included: Tensor) -> Consortium:
        """``data`` with each of these sites training on what ``included (p,)`` takes, and on nothing else."""
        known = {name: k for k, name in enumerate(self.names)}
        return replace(data, sites=tuple(self._site(data, site, known, included) for site in data.sites))

    def _site(self, data: Consortium, site: Site, known: dict[str, int], included: Tensor) -> Site:
        if site.id not in known:
            return site
        rows = self.site == known[site.id]
        inside, outside = self._in_order(rows & included), self._in_order(rows & ~included)
        if not len(inside):
            raise Refused(f"a mask leaves {site.id} without records", remedy="include at least one of every site")
        if data.canaries is not None:
            planted = site.records.train.select(data.canaries.among(site.records.train))
            inside = Records.joined([inside, planted])
        return replace(site, records=Pools(inside, site.records.validation, outside))

    def _in_order(self, mask: Tensor) -> Records:
        """By number, as sites hold theirs: a shadow of the target's own records and seed is the target."""
        records = self.records.select(mask)
        return records.select(records.ids.argsort())


def check_retraining(spec: TrainingSpec, every: Sequence[Arm], data: Consortium) -> None:
    """Refuse, before anything trains, attacks that retrain where that cannot be done."""
    for place in _retraining(spec):
        try:
            check_data(data)
            _check_arms(spec, every)
        except Refused as error:
            raise error.at(place) from error


def refuse_retraining(spec: TrainedModelSpec) -> None:
    """Refuse, where nothing is trained, every attack that retrains.

    Raises Refused: an attack of the study retrains.
    """
    for place in _retraining(spec):
        reason = "nothing was trained here, so there is no training to run again as a shadow"
        raise Refused(reason, remedy="use an attack that needs only answers, such as loss-threshold", where=place)


def _retraining(spec: Spec) -> Iterator[str]:
    """The places of the attacks that retrain."""
    return (f"attacks[{i}]" for i, a in enumerate(spec.attacks) if issubclass(a.attack.needs, RetrainView))


def check_data(data: Consortium) -> None:
    """Refuse data on which no shadow could train.

    Raises Refused: the records are on other machines.
    """
    if data.declared:
        reason = "the records are on other machines, and shadows would have to train on them"
        raise Refused(reason, remedy="simulate the study, or use an attack that needs no shadows")


def _check_arms(spec: TrainingSpec, every: Sequence[Arm]) -> None:
    if spec.data.shares.non_members == 0:
        reason = "there are no non-members, so no shadow could leave anything out"
        raise Refused(reason, remedy="hold some out: data.non-members = 0.2")
    for arm in every:
        kind = arm.algorithm or spec.federation.algorithm
        if kind.personal:
            reason = f"{kind.kind()} leaves a model at every site, and shadows are of one model that everyone has"
            raise Refused(reason, remedy="use an algorithm with one model, or an attack that needs no shadows")
