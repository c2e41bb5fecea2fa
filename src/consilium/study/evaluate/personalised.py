"""A personalised algorithm leaves a model at every site: stored one file a site, and judged where its records are.

    models/<digest>/sites/<site>.safetensors      as the cell's own model: defended, sealed, judged as it is read back

    personal_accuracy         share of all sites' validation records that each site's own model answers rightly
    personal_worst_accuracy   the same at the site where it is lowest
    shared_accuracy           the cell's model on the same records: what to compare them with

Chance is answering each site's own commonest class.  A site with too few records, or without consent, tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
        if any(self._site_state(site).tensors for site in self.sites):
            return ""
        return "the sites' own models are not here: in a deployment they stay where they were made"

    def weights(self) -> tuple[Tensor, Tensor]:
        """Parameters and buffers of the cell's model: everyone's, else those of the largest site.

        Raises Failed: there is no model for everyone, and the sites' models are not here.
        """
        weights = self.algorithm.model_for(self.server, None)
        if weights is None and self.away:
            reason = f"{self.algorithm.kind()} has no model for everyone, and {self.away}"
            raise Failed(reason, remedy="read the sites' own figures in rounds.jsonl, or simulate")
        return self._site_weights(self._largest()) if weights is None else weights

    def notes(self) -> list[str]:
        """Whose model the cell's is, where there is none for everyone, and what the sites' figures are of."""
        if self.away:
            return []
        notes = [
            f"Each of the {len(self.sites)} honest sites has a model of its own (models/DIGEST/sites). "
            "personal_accuracy judges each on its own site's validation records, which are not the test set: "
            "compare it with shared_accuracy, or between cells of the same sites."
        ]
        if self.algorithm.model_for(self.server, None) is None:
            largest = self._largest()
            share = f"{len(largest.records.train)} of {sum(len(s.records.train) for s in self.sites)}"
            notes.append(
                f"{self.algorithm.kind()} has no model for everyone. This cell's model, the one that is tested and "
                f"attacked, is that of {largest.id}: of the sites that took part it has the most records ({share})."
            )
        if others := [site.id for site in self.sites if site.id not in self.judged]:
            notes.append(f"Not in those figures: {', '.join(others)}, corrupted in another infection of this study.")
        new = [site.id for site in self.sites if not self._site_state(site).tensors]
        if new:
            notes.append(f"{len(new)} of {len(self.sites)} sites never took part: theirs is what a new site is given.")
        return notes

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
        sites = [site for site in self.sites if site.id in self.judged]
        counts = _known(_SiteCounts.of(site, self._release(site).module, self.task) for site in sites)
        if not counts:
            reason = "no site told its figures: too few validation records, or no consent"
            return [Measure.undefined(name, reason) for name in _NAMES]
        worst = min(counts, key=lambda c: c.right / c.n)
        measures = [_measure(_NAMES[0], counts), _measure(_NAMES[1], [worst])]
        if self.algorithm.model_for(self.server, None) is None:
            return [*measures, Measure.undefined(_NAMES[2], "there is no model for everyone")]
        shared_counts = _known(_SiteCounts.of(site, shared, self.task) for site in sites)
        return [*measures, _measure(_NAMES[2], shared_counts)]

    def _release(self, site: Site) -> Released:
        """The site's model as it is stored; it is stored if it was not."""
        plain = self.network.module_at(*self._site_weights(site)).cpu()
        path, stream = site_file(self.folder, site.id), self.stream.child(site.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        return release(plain, self.arm.model, self.arm.answer, self.public, self.task, path, stream)

    def _site_weights(self, site: Site) -> tuple[Tensor, Tensor]:
        weights = self.algorithm.model_for(self.server, self._site_state(site))
        if weights is None:
            raise Failed(f"{self.algorithm.kind()} has no model for {site.id}")
        if not all(bool(tensor.isfinite().all()) for tensor in weights if tensor.is_floating_point()):
            raise Failed(
                f"the own model of {site.id} is not finite: its training under {self.algorithm.kind()} diverged",
                remedy="lower lr, or the knobs of the algorithm that it is multiplied with (lam)",
            )
        return weights

    def _site_state(self, site: Site) -> AlgorithmState:
        return self.states[site.id].algorithm if site.id in self.states else AlgorithmState()

    def _largest(self) -> Site:
        """The site with most records of those that took part; the first of equals."""
        trained = [site for site in self.sites if self._site_state(site).tensors]
        return max(trained or self.sites, key=lambda site: len(site.records.train))


@dataclass(frozen=True)
class _SiteCounts:
    """What leaves a site: counts over its validation records; ``common`` is the size of its commonest class."""

    n: int
    right: int
    common: int

    @classmethod
    def of(cls, site: Site, module: nn.Module, task: Task) -> _SiteCounts | None:
        """None where the site reports nothing."""
        assessment = assess_answers(site, module, task, torch.device("cpu"))
        if assessment.accuracy is None:
            return None
        return cls(assessment.n, round(assessment.accuracy * assessment.n), task.most_right(site.records.validation.y))


def _known(counts: Iterable[_SiteCounts | None]) -> list[_SiteCounts]:
    """The counts of the sites that report any."""
    return [one for one in counts if one is not None]


def _measure(name: str, counts: Sequence[_SiteCounts]) -> Measure:
    n, right, common = (sum(getattr(c, part) for c in counts) for part in ("n", "right", "common"))
    return Measure(name, right / n, *wilson(right, n), common / n, n)
