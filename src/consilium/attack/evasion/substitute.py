"""Substitute: trains a model of its own on bought labels, crafts on it, and tries the result on the released one.

    S <- public records;  label S by queries;  train F on S;  S <- S u {x + jacobian_step * sgn(dF_label / dx)};  again

Each round of Jacobian augmentation doubles the records until ``queries`` labels in all are bought.  Then PGD on F
(FGSM with ``steps = 1``).  Only labels are used, so no answer defence that keeps the label stands before it.

Source: Papernot et al. 2017, Practical Black-Box Attacks against Machine Learning, arXiv 1602.02697.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.entry import check
from consilium.core.finding import Finding
from consilium.core.records import Records
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss
from consilium.measure.clustered import share_measure

from ._fitted import Fitted, FittedView
from ._networks import classifier, minibatches, seeded

__all__ = ["Substitute"]

_BATCH, _RATE = 64, 1e-3


@dataclass(frozen=True)
class Substitute(Fitted):
    """Trains a substitute on the released model's labels and crafts with PGD on it."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: Norm = "linf"
    """How distance is measured: the largest change of a value, or the Euclidean length of all."""
    queries: int = 2000
    """Labels bought in all, whatever the number of test records."""
    seeds: int = 150
    """Public records that the first labels are bought for; all of them where there are fewer."""
    jacobian_step: float = 0.1
    """How far a new record lies from the one it is made of, in every value."""
    epochs: int = 20
    """Passes over the records so far, in each round of augmentation."""
    steps: int = 20
    """Gradient steps on the substitute; 1 is FGSM."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        for knob in ("queries", "seeds", "epochs", "steps"):
            check(getattr(self, knob) >= 1, knob, getattr(self, knob), "at least 1")
        check(0 < self.jacobian_step <= 1, "jacobian_step", self.jacobian_step, "a number above 0, at most 1")

    def check_task(self, task: Task) -> None:
        """Refuse answers that are no label."""
        super().check_task(task)
        refuse_unless_exclusive(task, self, "the substitute is trained on one label a record")

    def follows(self, view: ModelView) -> nn.Module | None:
        """The released model, whose labels are all that is needed."""
        return view.module

    def fit(self, view: ModelView, public: Records, generator: torch.Generator) -> nn.Module:
        """The substitute, after as many rounds of augmentation as the labels last."""
        order = torch.randperm(len(public), generator=generator, device=generator.device)
        x = public.x[order[: min(self.seeds, self.queries)].to(public.x.device)]
        labels = self._labels(view, x)
        network = seeded(lambda: classifier(tuple(x.shape[1:]), view.classes), generator).to(x.device)
        while True:
            self._train(network, x, labels, generator)
            new = self._augmented(network, x, labels)[: self.queries - len(x)]
            if not len(new):
                return network.eval().requires_grad_(False)
            x, labels = torch.cat([x, new]), torch.cat([labels, self._labels(view, new)])

    def perturb(self, fitted: nn.Module, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """PGD's last point on the substitute, or FGSM's."""
        ball = self.ball()
        return maximise(
            fitted, x, y, ball=ball, steps=self.steps, random_start=self.steps > 1, generator=generator,
            step_size=self.radius if self.steps == 1 else ball.step_size(self.steps),
            loss=attack_loss("cross-entropy", view.task), goal=self.goal_for(view.task),
        )  # fmt: skip

    def extended(self, view: ModelView, finding: Finding) -> Finding:
        """With the share of test records that substitute and released model answer alike."""
        if not isinstance(view, FittedView):
            return finding
        with torch.no_grad():
            alike = view.task.predicted(view.fitted(view.targets.x)) == view.task.predicted(view.module(view.targets.x))
        agreement = share_measure("agreement", alike, view.targets.units)
        return replace(finding, measures=(*finding.measures, agreement))

    def _labels(self, view: ModelView, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([view.task.predicted(view.module(part)) for part in torch.split(x, 1024)])

    def _train(self, network: nn.Module, x: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        optimiser = torch.optim.Adam(network.parameters(), _RATE)
        for rows in minibatches(len(x), _BATCH, self.epochs, generator):
            optimiser.zero_grad()
            F.cross_entropy(network(x[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    def _augmented(self, network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        """A record beside each one, where the substitute is most sensitive for its label."""
        leaf = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(leaf).gather(1, labels[:, None]).sum(), leaf)
        return (x + self.jacobian_step * gradient.sign()).clamp(0, 1)
