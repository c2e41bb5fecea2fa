"""The exchange in which sites assess the model, and the means over their records that the server computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from consilium.core.algorithm import Algorithm, Server
from consilium.core.exchange import Exchange
from consilium.core.task import Task
from consilium.federate.client.assessment import Assessment, LocalAssessments
from consilium.federate.client.participant import Participant, SiteState

from .model_ema import ModelEMA

__all__ = ["AssessState", "Assessing", "mean_accuracy"]


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
        self.algorithm, self.sites, self.average = algorithm, sites, average or ModelEMA()
        self._site_half = LocalAssessments(algorithm, sites, task)

    @property
    def site_half(self) -> LocalAssessments:
        """Every site's judgement."""
        return self._site_half

    def open(self, server: AssessState) -> tuple[tuple[str, ...], Server]:
        """The model that would be released now, without what the server keeps beside it."""
        return server.sites, replace(self.average.released(server.server), memory={})

    def server(
        self, phase: str, outboxes: Mapping[str, Assessment], server: AssessState
    ) -> tuple[AssessState, Server | None]:
        """Collected; the exchange is over."""
        return replace(server, assessments=tuple(outboxes.values())), None


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
