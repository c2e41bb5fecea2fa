"""Randomised response on labels: each label is kept with probability p and else replaced by a uniform other one.

    p = e^eps / (e^eps + k - 1)   for k classes

Drawn once per record, before anything is learned, and stored: every later read returns the same label (LAWS 11).
Inputs stay as they are, so the unit of the claim is the label.

Source: Warner 1965, JASA 60:63; Ghazi et al. 2021, Deep Learning with Label Differential Privacy, arXiv 2102.06062
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from consilium.core.charge import Charge, RandomisedResponse
from consilium.core.defence import DataDefence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task, refuse_unless_exclusive

__all__ = ["LabelRandomisedResponse"]


@dataclass(frozen=True)
class LabelRandomisedResponse(DataDefence):
    """Flips each label by a coin before training, so that labels (not inputs) are differentially private."""

    epsilon: float = 2.0
    """What each label spends, once: a label is kept with e^eps / (e^eps + classes - 1)."""

    def __post_init__(self) -> None:
        check(0 < self.epsilon <= 30, "epsilon", self.epsilon, "above 0, at most 30: beyond, no coin of 53 bits flips")

    def keep(self, classes: int) -> float:
        """The probability p that a label stays, of ``classes`` values."""
        return 1 / (1 + (classes - 1) * math.exp(-self.epsilon))

    def check_task(self, task: Task) -> None:
        """Refuse what has no classes."""
        refuse_unless_exclusive(task, self, "its coin chooses among the classes")

    def protect(self, records: Records, classes: int, stream: Stream) -> Records:
        """The same inputs under randomised labels.

        Raises Refused: fewer than two classes.
        """
        if classes < 2:
            raise Refused(f"randomised response needs two classes or more, not {classes}", remedy="leave it out")
        generator = stream.concealed()
        keep = torch.rand(len(records), generator=generator, dtype=torch.float64) < self.keep(classes)
        other = torch.randint(1, classes, (len(records),), generator=generator)
        y = records.y.cpu()
        return records.relabelled(torch.where(keep, y, (y + other) % classes).to(records.y.device))

    def charge(self, classes: int) -> Charge:
        """Pure epsilon for one label."""
        return RandomisedResponse(self.epsilon, classes)
