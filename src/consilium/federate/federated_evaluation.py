"""How well a model does where the records are: the second thing that may leave a site.

Only counts and means over at least ``limits.minimum_count`` validation records leave, and only with the site's consent.
Validation records are never trained on, so no privacy claim covers them: the report states this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consilium.core.algorithm import Algorithm, Server
from consilium.core.exchange import Exchange
from consilium.core.gradient import Predict
from consilium.core.network import Network
from consilium.core.records import Site
from consilium.core.task import Task

from .client.participant import Participant, SiteState
from .round.model_ema import ModelEMA

__all__ = ["AssessState", "Assessing", "Assessment", "assess", "assess_answers", "mean_accuracy"]


@dataclass(frozen=True)
class Assessment:
    """One site's aggregate; both figures are None where the site declined, with the reason, an infinite loss always."""

    site: str
    n: int
    accuracy: float | None
    loss: float | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class AssessState:
    """The model to be assessed, the sites that assess it, and their figures."""

    server: Server
    sites: tuple[str, ...]
    assessments: tuple[Assessment, ...] = ()


class Assessing(Exchange[AssessState, SiteState, Server, Assessment]):
    """An exchange like any other, so every engine carries it: the model goes out, aggregates come back."""

    phases = ("assess",)

    def __init__(
        self, algorithm: Algorithm, sites: Mapping[str, Participant], task: Task, average: ModelEMA | None = None
    ) -> None:
        self.algorithm, self.sites, self.task, self.average = algorithm, sites, task, average or ModelEMA()

    def open(self, server: AssessState) -> tuple[tuple[str, ...], Server]:
        """The model that would be released now, without what the server keeps beside it."""
        return server.sites, replace(self.average.released(server.server), memory={})

    def site(self, phase: str, site: str, inbox: Server, state: SiteState) -> tuple[Assessment, SiteState]:
        """The site's own model, where the algorithm is personal; its state stays as it is."""
        person = self.sites[site]
        model = self.algorithm.model_for(inbox, state.algorithm)
        if model is None:
            return Assessment(site, 0, None, None, "the site has no model yet"), state
        return assess(person.site, person.network, self.task, *model), state

    def together(
        self, phase: str, sites: Sequence[str], inbox: Server, states: Mapping[str, SiteState]
    ) -> tuple[dict[str, Assessment], dict[str, SiteState]]:
        """One after the other: a forward pass is a full batch already."""
        assessments = {site: self.site(phase, site, inbox, states[site])[0] for site in sites}
        return assessments, {site: states[site] for site in sites}

    def server(
        self, phase: str, outboxes: Mapping[str, Assessment], server: AssessState
    ) -> tuple[AssessState, Server | None]:
        """Collected; the exchange is over."""
        return replace(server, assessments=tuple(outboxes.values())), None


def assess(site: Site, network: Network, task: Task, params: Tensor, buffers: Tensor, batch: int = 1024) -> Assessment:
    """Accuracy and mean loss of the model on the site's validation records, if the site agrees."""
    return assess_answers(site, network.workspace.answers(params, buffers), task, params.device, batch)


def assess_answers(site: Site, answer: Predict, task: Task, device: torch.device, batch: int = 1024) -> Assessment:
    """The same of whatever answers inputs on ``device`` by logits: a model as it is released, defences and all."""
    records = site.records.validation
    n = len(records)
    if not site.limits.consent:
        return Assessment(site.id, 0, None, None, "the site gives no consent")
    if n < site.limits.minimum_count:
        return Assessment(site.id, 0, None, None, f"fewer than {site.limits.minimum_count} validation records")
    right, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, n, batch):
            y = records.y[start : start + batch].to(device)
            logits = answer(records.x[start : start + batch].to(device))
            right += int(task.right(logits, y).sum())
            loss += float(task.loss(logits, y, "sum"))
    return Assessment(site.id, n, right / n, loss / n if math.isfinite(loss) else None)


def mean_accuracy(assessments: Sequence[Assessment]) -> tuple[float | None, float | None, float | None]:
    """Mean accuracy over records, accuracy of the worst site, and mean loss, over the sites that answered."""
    results = [(a.n, a.accuracy, a.loss) for a in assessments if a.accuracy is not None]
    if not results:
        return None, None, None
    total = sum(n for n, *_ in results)
    mean = sum(n * accuracy for n, accuracy, _ in results) / total
    losses = [n * loss for n, _, loss in results if loss is not None]
    loss = sum(losses) / total if len(losses) == len(results) else None
    return mean, min(accuracy for _, accuracy, _ in results), loss
