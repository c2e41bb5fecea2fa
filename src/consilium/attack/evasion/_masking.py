"""Six checks that show when a figure of robustness comes from hidden gradients and not from robustness.

    unbounded        in a ball that holds every input an attack fools all records
    black box        a search without gradients fools nobody whom gradients do not
    loss             the loss is higher after a walk than before it
    scaling          a factor on the logits changes no decision, so it makes no attack stronger
    zero gradients   the gradient of the loss is exactly zero nowhere
    restarts         four more random starts find next to nothing

Each is a share of the records, 0 for a sound model.

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, arXiv 1902.06705; Athalye et al. 2018, arXiv
1802.00420; Pintor et al. 2022, Indicators of Attack Failure, arXiv 2106.09947.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from consilium.core.finding import RED_FLAG, Measure
from consilium.core.threat import ModelView
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.balls import ball_of
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.losses import CrossEntropyLoss, margin
from consilium.learn.perturbation.maximise import maximise, slope
from consilium.measure.clustered import share_measure

from ._evasion import Evasion, stand_in
from .pgd import PGD
from .square import Square

__all__ = ["CHECKS", "Masking", "MaskingCheck", "masking_checks"]

CHECKS = ("unbounded", "black_box", "loss", "scaling", "zero_gradients", "restarts")

_RESTARTS = 5
"""Starts in all."""
_SCALES = (0.1, 0.01)
"""Factors on the logits; where the cross-entropy is flat at their scale, it is not at a smaller one."""
_TINY_LEAD = 0.1
"""Median lead of the right class below which the logits are scaled up too, to a lead of 1: the gradient of the
cross-entropy leads from the right class towards the mean of all others there, and not towards the best of them."""
_ALLOWED = 0.01
"""The share of the records that may speak against a figure."""


@dataclass(frozen=True, eq=False)
class MaskingCheck:
    """``hits (n,)`` bool speak against the figure; one record, or 1 % of them, may.  ``units (n,)``: whose they are."""

    name: str
    hits: Tensor
    units: Tensor
    meaning: str

    @property
    def count(self) -> int:
        """How many records speak against it."""
        return int(self.hits.sum())

    @property
    def n(self) -> int:
        """Of how many."""
        return len(self.hits)

    @property
    def passed(self) -> bool:
        """Whether so few do that chance or rounding explains it."""
        return self.count <= max(1, math.floor(_ALLOWED * self.n))

    def measure(self) -> Measure:
        """The share, with its interval."""
        return share_measure(f"masking_{self.name}", self.hits, self.units)

    def note(self) -> str:
        """The finding as a sentence, marked where it is too much."""
        return f"{'' if self.passed else RED_FLAG}masking, {self.name.replace('_', ' ')}: {self.meaning}."


@dataclass(frozen=True)
class Masking:
    """What the checks are made with."""

    radius: float
    norm: Norm
    steps: int
    queries: int


def masking_checks(view: ModelView, knobs: Masking, generator: torch.Generator) -> tuple[MaskingCheck, ...]:
    """The six checks on the records of ``view`` that are answered rightly; none where no record is.

    Raises Refused: the view has no surrogate.
    """
    with torch.no_grad():
        right = torch.nonzero(view.task.right(view.module(view.targets.x), view.targets.y))[:, 0]
    if not len(right):
        return ()
    checks = _Checks(replace(view, targets=view.targets.select(right)), knobs, generator)
    return tuple(getattr(checks, name)() for name in CHECKS)


class _Scaled(nn.Module):
    """Logits times a factor."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.inner(x)
        return logits


class _Checks:
    def __init__(self, view: ModelView, knobs: Masking, generator: torch.Generator) -> None:
        self.view, self.knobs, self.generator = view, knobs, generator
        self.n = len(view.targets)
        self.crossed = self.withstood(self.pgd())
        self.margin = self.withstood(self.pgd(loss="margin"))

    def pgd(self, **knobs: object) -> PGD:
        plain = PGD(radius=self.knobs.radius, norm=self.knobs.norm, steps=self.knobs.steps)
        return replace(plain, **knobs)  # type: ignore[arg-type]

    def withstood(self, attack: Evasion, view: ModelView | None = None) -> Tensor:
        """Which records the released model answers rightly under ``attack``, bool ``(n,)``."""
        x, y = self.view.targets.x, self.view.targets.y
        crafted = attack.craft(view or self.view, x, y, self.generator)
        with torch.no_grad():
            return ~self.view.task.surely_wrong(self.view.module(crafted), y)

    def check(self, name: str, hits: Tensor, text: str) -> MaskingCheck:
        return MaskingCheck(name, hits, self.view.targets.units, text)

    def unbounded(self) -> MaskingCheck:
        features = self.view.targets.x[0].numel()
        widest = ball_of(self.knobs.norm, 0).diameter(features)
        remaining = self.withstood(self.pgd(radius=widest, loss="margin", steps=5 * self.knobs.steps))
        remaining &= self.withstood(self.pgd(radius=widest, steps=5 * self.knobs.steps))
        hits = remaining
        count = int(hits.sum())
        text = f"{count} of {self.n} records withstand an attack that may turn them into any input"
        return self.check("unbounded", hits, text)

    def black_box(self) -> MaskingCheck:
        square = Square(radius=self.knobs.radius, norm=self.knobs.norm, queries=self.knobs.queries)
        hits = self.crossed & self.margin & ~self.withstood(square)
        count = int(hits.sum())
        text = f"a search by {self.knobs.queries} answers fools {count} of {self.n} records that gradients do not"
        return self.check("black_box", hits, text)

    def loss(self) -> MaskingCheck:
        x, y, task = self.view.targets.x, self.view.targets.y, self.view.task
        ball, loss, goal = ball_of(self.knobs.norm, self.knobs.radius), CrossEntropyLoss(), Misclassification(task)
        followed = stand_in(self.view)
        point = maximise(
            followed, x, y, ball=ball, steps=self.knobs.steps, step_size=ball.step_size(self.knobs.steps),
            generator=self.generator, random_start=False, loss=loss, goal=goal,
        )  # fmt: skip
        with torch.no_grad():
            before, after = (goal.climbed(loss, followed(one), y) for one in (x, point))
        hits = ~(after > before)
        count = int(hits.sum())
        text = f"the loss of {count} of {self.n} records is no higher after {self.knobs.steps} steps than before"
        return self.check("loss", hits, text)

    def scaling(self) -> MaskingCheck:
        remaining, larger = self.crossed, self.enlarging()
        for factor in (*_SCALES, *larger):
            followed = _Scaled(stand_in(self.view), factor)
            remaining = remaining & self.withstood(self.pgd(), replace(self.view, surrogate=followed))
        hits = self.crossed & ~remaining
        count = int(hits.sum())
        which = "smaller or larger" if larger else "smaller"
        text = f"with {which} logits, which decide alike, {count} of {self.n} records more fall"
        return self.check("scaling", hits, text)

    def enlarging(self) -> tuple[float, ...]:
        """The factor that brings the median lead of the right class to 1, where that is tiny; else none."""
        with torch.no_grad():
            leads = -margin(stand_in(self.view)(self.view.targets.x), self.view.targets.y)
        lead = float(leads.median())
        return (1 / lead,) if 0 < lead < _TINY_LEAD else ()

    def zero_gradients(self) -> MaskingCheck:
        x, y, task = self.view.targets.x, self.view.targets.y, self.view.task
        gradient = slope(stand_in(self.view), x, y, CrossEntropyLoss(), Misclassification(task)).gradient
        hits = ~gradient.flatten(1).any(1)
        count = int(hits.sum())
        text = f"the gradient of the cross-entropy is exactly zero for {count} of {self.n} records"
        return self.check("zero_gradients", hits, text)

    def restarts(self) -> MaskingCheck:
        more = self.withstood(self.pgd(restarts=_RESTARTS - 1))
        hits = self.crossed & ~more
        count = int(hits.sum())
        text = f"{_RESTARTS - 1} more random starts fool {count} of {self.n} records more"
        return self.check("restarts", hits, text)
