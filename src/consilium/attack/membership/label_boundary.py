"""Membership by distance to the decision boundary, from labels alone: what was learned by heart is answered robustly.

    score = largest radius r at which x + r u is answered rightly, averaged over directions u; 0 if x itself is not

u are random directions of root-mean-square length 1 per value; along each the radius is found by bisection, so that a
record costs 1 + directions x steps queries, at most ``queries``.  Points are clamped to [0, 1], where inputs live.

Source: Choquette-Choo et al. 2021, Label-Only Membership Inference Attacks, arXiv 2007.14321 (random directions stand
in for its HopSkipJump: fewer queries, a looser distance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.attack import Attack
from consilium.core.entry import check
from consilium.core.finding import Finding
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.random import Stream
from consilium.core.threat import QueryView, ThreatModel
from consilium.core.update import Payload

from ._judged import judged

__all__ = ["LabelBoundary"]

_BATCH = 2048


@dataclass(frozen=True)
class LabelBoundary(Attack[QueryView]):
    """Takes records that keep their label far along random directions for members."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[QueryView]] = QueryView
    queries: int = 41
    """Most queries a record."""
    steps: int = 5
    """Halvings of the distance along each direction."""
    radius: float = 1.0
    """Largest root-mean-square distance that is tried, in units of the inputs' range [0, 1]."""

    def __post_init__(self) -> None:
        check(1 <= self.steps <= 30, "steps", self.steps, "1 to 30 halvings")
        check(self.queries > self.steps, "queries", self.queries, f"more than {self.steps} queries: one direction's")
        check(self.radius > 0, "radius", self.radius, "a radius above 0")

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens: no line leads from one word to another."""
        refuse_tokens(inputs, self, "it moves a record along a line, and no id lies between two words")

    def run(self, view: QueryView, memory: Payload, generator: torch.Generator) -> Finding:
        """At most ``queries`` per candidate.  Scores: ``score``, ``member``, ``known`` (n,)."""
        stream = Stream(int(torch.randint(2**62, (1,), generator=generator)))
        x, y = view.candidates.x, view.candidates.y
        scores = [self._distances(view, x[i : i + _BATCH], y[i : i + _BATCH], stream.child(i)) for i in _firsts(len(x))]
        return judged(torch.cat(scores).double().cpu(), view, generator)

    def _distances(self, view: QueryView, x: Tensor, y: Tensor, stream: Stream) -> Tensor:
        right = view.task.right(view.ask(x), y)
        total = torch.zeros(len(x))
        directions = (self.queries - 1) // self.steps
        for number in range(directions):
            u = torch.randn(x.shape, generator=stream.child(number).generator()).to(x)
            total[right] += self._along(view, x[right], y[right], u[right]).cpu()
        return total / directions

    def _along(self, view: QueryView, x: Tensor, y: Tensor, u: Tensor) -> Tensor:
        """The middle of the interval to which bisection brings the radius where the label changes, ``(n,)``."""
        low, high = torch.zeros(len(x)).to(x), torch.full((len(x),), self.radius).to(x)
        for _ in range(self.steps):
            middle = (low + high) / 2
            moved = (x + middle.view(-1, *[1] * (x.dim() - 1)) * u).clamp(0, 1)
            unchanged = view.task.right(view.ask(moved), y) if len(x) else torch.zeros(0, dtype=torch.bool)
            low, high = torch.where(unchanged, middle, low), torch.where(unchanged, high, middle)
        return (low + high) / 2


def _firsts(n: int) -> range:
    return range(0, max(1, n), _BATCH)
