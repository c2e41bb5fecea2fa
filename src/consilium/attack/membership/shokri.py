"""Membership by an attack model: shadow models teach a classifier, one per class, what knowing a record looks like.

    (log-probabilities answered by a shadow, was the record in that shadow?)  ->  classifier of the record's class
    score = log-odds that the classifier gives to "in" for the answers of the model itself

The classifiers are random forests (the paper's nets of 64 units miss narrow bands).  Shadows answer about the pool that
they were trained from; each class learns from at most ``examples`` of these answers, in and out alike.  A class with
too few learns from all.

Source: Shokri et al. 2017, Membership Inference Attacks Against Machine Learning Models, arXiv 1610.05820.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from consilium.core.attack import Attack
from consilium.core.entry import check
from consilium.core.finding import Finding
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import RetrainView, ThreatModel
from consilium.core.update import Payload

from ._judged import judged
from ._shadow_scores import check_shadows, log_probabilities

__all__ = ["Shokri"]

_FEW = 20


@dataclass(frozen=True)
class Shokri(Attack[RetrainView]):
    """Trains a classifier per class on shadow models' answers, and applies it to the model's."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[RetrainView]] = RetrainView
    shadows: int = 8
    """Models that are trained like the one attacked, each on a random half of the records: 2 to 4096."""
    examples: int = 4000
    """Most answers of shadows that the classifier of each class learns from."""

    def __post_init__(self) -> None:
        check_shadows(self.shadows)
        check(self.examples >= 2 * _FEW, "examples", self.examples, f"{2 * _FEW} examples or more")

    def check_task(self, task: Task) -> None:
        """Refuse what has no classes."""
        refuse_unless_exclusive(task, self, "it trains a classifier for each class")

    def retrains(self) -> int:
        """The entry's parameter ``shadows``."""
        return self.shadows

    def run(self, view: RetrainView, memory: Payload, generator: torch.Generator) -> Finding:
        """One query per candidate.  Scores: ``score``, ``member``, ``known`` (n,)."""
        answers, inside, labels = self._lessons(view, generator)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        log_p = log_probabilities(view.ask, view.candidates.x)
        everyone = _taught(answers, inside, seed)
        scores = _odds(everyone, log_p)
        for label in range(view.classes):
            group, here = labels == label, view.candidates.y == label
            if here.any() and min(int((inside & group).sum()), int((~inside & group).sum())) >= _FEW:
                scores[here] = _odds(_taught(answers[group], inside[group], seed), log_p[here])
        return judged(scores, view, generator)

    def _lessons(self, view: RetrainView, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Answers ``(l, classes)``, whether each record was in that shadow ``(l,)``, and its label ``(l,)``."""
        each = max(_FEW, self.examples // (2 * self.shadows))
        answers, inside, labels = [], [], []
        for shadow in view.shadows(self.shadows):
            for truth in (True, False):
                for label in range(view.classes):
                    places = torch.nonzero((shadow.included == truth) & (view.pool.y == label))[:, 0]
                    places = places[torch.randperm(len(places), generator=generator)[:each]]
                    if len(places):
                        answers.append(log_probabilities(shadow.module, view.pool.x[places]))
                        inside.append(torch.full((len(places),), truth))
                        labels.append(torch.full((len(places),), label))
        return torch.cat(answers), torch.cat(inside), torch.cat(labels)


def _taught(answers: Tensor, inside: Tensor, seed: int) -> RandomForestClassifier:
    forest = RandomForestClassifier(100, min_samples_leaf=10, random_state=seed, n_jobs=1)
    return forest.fit(answers.numpy(), inside.numpy())


def _odds(model: RandomForestClassifier, answers: Tensor) -> Tensor:
    p = torch.from_numpy(model.predict_proba(answers.numpy())[:, 1]).double()
    return torch.logit(p, eps=1e-12)
