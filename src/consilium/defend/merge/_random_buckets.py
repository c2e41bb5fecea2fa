"""Means of a few updates each, drawn at random.

Source: Karimireddy et al. 2022, arXiv 2006.09365, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from consilium.core.random import Stream
from consilium.core.update import Update

from ._payloads import combined
from ._step_before import StepBefore

__all__ = ["RandomBuckets"]


@dataclass(frozen=True, eq=False)
class RandomBuckets(StepBefore):
    """Updates of ``size`` sites each, the last of fewer; whose they are is drawn anew in each round."""

    size: int = 2
    stream: Stream = field(default_factory=lambda: Stream(0))

    def changed(self, updates: Sequence[Update]) -> list[Update]:
        """The plain mean of each bucket; its weight is the number of its updates."""
        number, n = updates[0].round, len(updates)
        order = torch.randperm(n, generator=self.stream.child("round", number).generator()).tolist()
        groups = [[updates[i] for i in sorted(order[at : at + self.size])] for at in range(0, n, self.size)]
        return [self._mean(f"bucket-{k:06d}", group) for k, group in enumerate(groups)]

    @staticmethod
    def _mean(name: str, group: Sequence[Update]) -> Update:
        n = len(group)
        return Update(name, group[0].round, float(n), combined(group, torch.full((n,), 1 / n, dtype=torch.float64)))
