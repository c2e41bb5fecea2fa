"""A personalised algorithm leaves a model at every site: stored one file a site, and judged where its records are.

    models/<digest>/sites/<site>.safetensors      as the cell's own model: defended, sealed, judged as it is read back

    personal_accuracy         share of all sites' validation records that each site's own model answers rightly
    personal_worst_accuracy   the same at the site where it is lowest
    shared_accuracy           the cell's model on the same records: what to compare them with

Chance is answering each site's own commonest class.  A site with too few records, or without consent, tells nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import torch
from torch import Tensor, nn

from consilium.core.algorithm import Algorithm, AlgorithmState, Server
from consilium.core.errors import Failed
from consilium.core.finding import Measure
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Records, Site
from consilium.core.seal import file_digest
from consilium.core.task import Task
from consilium.federate.client.assessment import assess_answers
from consilium.federate.client.participant import SiteState
from consilium.measure.intervals import wilson
from consilium.study.spec.arms import Arm

from .release import Released, release, unbroken

__all__ = ["Personal", "site_file"]

_NAMES = ("personal_accuracy", "personal_worst_accuracy", "shared_accuracy")


def site_file(model: Path, site: str) -> Path:
    """Where the model of ``site`` lies in the folder of a cell's model."""
    return model / "sites" / f"{quote(site, safe='')}.safetensors"


@dataclass(frozen=True, eq=False)
class Personal:
    """One training's models: ``states`` are what the sites keep, ``sites`` the honest ones, ``folder`` the model's.

    Figures are of the sites ``judged``: those that are honest in every infection, so that twins speak of the same.
    """

    algorithm: Algorithm
    server: Server
    states: Mapping[str, SiteState]
    network: Network
    sites: tuple[Site, ...]
    arm: Arm
    public: Records
    task: Task
    folder: Path
    stream: Stream
    judged: frozenset[str]

    @property
    def away(self) -> str:
        """Why there is no site's own model here; empty where there are some."""
        if any(self._kept(site).tensors for site in self.sites):
            return ""
        return "the sites' own models are not here: in a deployment they stay where they were made"

    def weights(self) -> tuple[Tensor, Tensor]:
        """Parameters and buffers of the cell's model: everyone's, else those of the largest site."""
        found = self.algorithm.model_for(self.server, None)
        if found is None and self.away:
            reason = f"{self.algorithm.kind()} has no model for everyone, and {self.away}"
            raise Failed(reason, remedy="read the sites' own figures in rounds.jsonl, or simulate")
        return self._own(self._largest()) if found is None else found

    def notes(self) -> list[str]:
        """Whose model the cell's is, where there is none for everyone, and what the sites' figures are of."""
        if self.away:
            return []
        said = [
            f"Each of the {len(self.sites)} honest sites has a model of its own (models/DIGEST/sites). "
            "personal_accuracy judges each on its own site's validation records, which are not the test set: "
            "compare it with shared_accuracy, or between cells of the same sites."
        ]
        if self.algorithm.model_for(self.server, None) is None:
            largest = self._largest()
            share = f"{len(largest.records.train)} of {sum(len(s.records.train) for s in self.sites)}"
            said.append(
                f"{self.algorithm.kind()} has no model for everyone. This cell's model, the one that is tested and "
                f"attacked, is that of {largest.id}: of the sites that took part it has the most records ({share})."
            )
        if left := [site.id for site in self.sites if site.id not in self.judged]:
            said.append(f"Not in those figures: {', '.join(left)}, corrupted in another infection of this study.")
        new = [site.id for site in self.sites if not self._kept(site).tensors]
        if new:
            said.append(f"{len(new)} of {len(self.sites)} sites never took part: theirs is what a new site is given.")
        return said

    def store(self, sealed: Mapping[str, str]) -> dict[str, str]:
        """Release every site's model unless its file is there; returns their seals.  ``sealed`` are those known."""
        if self.away:
            return {}
        for site in self.sites:
            path = site_file(self.folder, site.id)
            unbroken(path, sealed.get(site.id))
            if not path.exists():
                self._release(site)
        return {site.id: file_digest(site_file(self.folder, site.id)) for site in self.sites}

    def judge(self, shared: nn.Module) -> list[Measure]:
        """The three figures; ``shared`` is the cell's model, which some algorithms have for no one but one site."""
        if self.away:
            return [Measure.undefined(name, self.away) for name in _NAMES]
        asked = [site for site in self.sites if site.id in self.judged]
        own = [_Told.by(site, self._release(site).module, self.task) for site in asked]
        told = [t for t in own if t is not None]
        if not told:
            reason = "no site told its figures: too few validation records, or no consent"
            return [Measure.undefined(name, reason) for name in _NAMES]
        worst = min(told, key=lambda t: t.right / t.n)
        made = [_measure(_NAMES[0], told), _measure(_NAMES[1], [worst])]
        if self.algorithm.model_for(self.server, None) is None:
            return [*made, Measure.undefined(_NAMES[2], "there is no model for everyone")]
        common = [_Told.by(site, shared, self.task) for site in asked]
        return [*made, _measure(_NAMES[2], [t for t in common if t is not None])]

    def _release(self, site: Site) -> Released:
        """The site's model as it is stored; it is stored if it was not."""
        plain = self.network.module_at(*self._own(site)).cpu()
        path, stream = site_file(self.folder, site.id), self.stream.child(site.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        return release(plain, self.arm.model, self.arm.answer, self.public, self.task, path, stream)

    def _own(self, site: Site) -> tuple[Tensor, Tensor]:
        found = self.algorithm.model_for(self.server, self._kept(site))
        if found is None:
            raise Failed(f"{self.algorithm.kind()} has no model for {site.id}")
        if not all(bool(tensor.isfinite().all()) for tensor in found if tensor.is_floating_point()):
            raise Failed(
                f"the own model of {site.id} is not finite: its training under {self.algorithm.kind()} diverged",
                remedy="lower lr, or the knobs of the algorithm that it is multiplied with (lam)",
            )
        return found

    def _kept(self, site: Site) -> AlgorithmState:
        return self.states[site.id].algorithm if site.id in self.states else AlgorithmState()

    def _largest(self) -> Site:
        """The site with most records of those that took part; the first of equals."""
        trained = [site for site in self.sites if self._kept(site).tensors]
        return max(trained or self.sites, key=lambda site: len(site.records.train))


@dataclass(frozen=True)
class _Told:
    """What leaves a site: counts over its validation records; ``common`` of its commonest class."""

    n: int
    right: int
    common: int

    @classmethod
    def by(cls, site: Site, module: nn.Module, task: Task) -> _Told | None:
        """None where the site tells nothing."""
        told = assess_answers(site, module, task, torch.device("cpu"))
        if told.accuracy is None:
            return None
        return cls(told.n, round(told.accuracy * told.n), task.most_right(site.records.validation.y))


def _measure(name: str, told: Sequence[_Told]) -> Measure:
    n, right, common = (sum(getattr(t, part) for t in told) for part in ("n", "right", "common"))
    return Measure(name, right / n, *wilson(right, n), common / n, n)
