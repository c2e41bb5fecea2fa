"""ZOO: coordinate descent on answers, with the derivative of each coordinate by a symmetric difference.

    g_i = (L(x + h e_i) - L(x - h e_i)) / 2h        h_i = (L(x + h e_i) - 2 L(x) + L(x - h e_i)) / h^2

    adam     a step of ADAM in the coordinate, with its own moments and count
    newton   a step of step-size * g_i / |h_i|, where the loss is curved downwards; else step-size * g_i

L is the margin, as published: of logits it equals that of the logarithms of the probabilities.  Here the ball bounds
the change, where the authors weigh its length against L.  ``coordinates`` are drawn anew for each step, the same for
all records of a batch.

Source: Chen et al. 2017, ZOO: Zeroth Order Optimization Based Black-box Attacks to Deep Neural Networks, arXiv
1708.03999, algorithms 1 to 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.ball import Norm

from ._black_box import Answers, BlackBox

__all__ = ["Zoo"]

_FIRST, _SECOND, _SMALL = 0.9, 0.999, 1e-8
"""The constants of ADAM, as published."""
_NUMBERS = 1 << 23
"""Numbers of moved points that are held at once: 32 MiB."""


@dataclass(frozen=True)
class Zoo(BlackBox):
    """Climbs the margin coordinate by coordinate, with derivatives that are differences of two answers."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: Norm = "linf"
    """How distance is measured: the largest change of a value, or the Euclidean length of all."""
    queries: int = 5000
    """Answers that a record may cost; a step takes two for each coordinate and one more."""
    optimiser: Literal["adam", "newton"] = "adam"
    """How a derivative becomes a step."""
    coordinates: int = 128
    """Coordinates of one step; all of them where the inputs have fewer."""
    step_size: float = 0.01
    """Length of a step of ADAM, or the factor of one of Newton's."""
    difference: float = 0.01
    """How far a coordinate is moved to either side; answers that are rounded need a large one."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        for knob in ("radius", "step_size", "difference"):
            check(getattr(self, knob) > 0, knob, getattr(self, knob), "a number above 0")
        check(self.coordinates >= 1, "coordinates", self.coordinates, "at least 1")
        check(self.queries >= 4, "queries", self.queries, "at least 4: the record's, a coordinate's two, and a step's")

    def search(self, answers: Answers, x: Tensor, generator: torch.Generator) -> Tensor:
        """The first point that reaches the goal; else the last one."""
        out, rows = x.clone(), torch.arange(len(x), device=x.device)
        loss, reached = answers.scores(x, rows)
        # First and second moments and the number of steps, of every coordinate of every record.
        state, point = x.new_zeros(3, *x.flatten(1).shape), x
        while True:
            out[rows] = point
            rows, point, loss, state = rows[~reached], point[~reached], loss[~reached], state[:, ~reached]
            count = int((answers.remaining(rows).min() - 1) // 2) if len(rows) else 0
            if count < 1:
                return out
            places = torch.randperm(x[0].numel(), generator=generator, device=generator.device).to(x.device)
            places = places[: min(self.coordinates, count)]
            upper, lower = self._sides(answers, point, rows, places)
            step = self._step(state, places, loss, upper, lower)
            moved = point.flatten(1).index_add(1, places, step).view_as(point)
            point = self.ball().project(moved, x[rows])
            loss, reached = answers.scores(point, rows)

    def _sides(self, answers: Answers, point: Tensor, rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """The loss ``(m, k)`` a difference above and below each place."""
        flat, count = point.flatten(1), len(places)
        shifts = torch.zeros(2 * count, flat.shape[1], device=point.device, dtype=point.dtype)
        shifts[torch.arange(2 * count, device=point.device), places.repeat(2)] = self.difference
        shifts[count:] *= -1
        parts = torch.split(torch.arange(len(flat), device=point.device), max(1, _NUMBERS // shifts.numel()))
        losses = [
            answers.scores((flat[part, None] + shifts).flatten(0, 1), rows[part].repeat_interleave(2 * count))[0]
            for part in parts
        ]
        both = torch.cat(losses).view(len(flat), 2, count)
        return both[:, 0], both[:, 1]

    def _step(self, state: Tensor, places: Tensor, loss: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
        """How far each place moves ``(m, k)``; ``state (3, m, d)`` is brought up to date."""
        slope = torch.nan_to_num((upper - lower) / (2 * self.difference), posinf=0, neginf=0)
        if self.optimiser == "newton":
            curvature = torch.nan_to_num((upper - 2 * loss[:, None] + lower) / self.difference**2, posinf=0)
            return self.step_size * slope / torch.where(curvature < 0, -curvature, 1)
        first, second, count = state[:, :, places]
        first, second, count = _FIRST * first + (1 - _FIRST) * slope, _SECOND * second, count + 1
        second = second + (1 - _SECOND) * slope.square()
        state[:, :, places] = torch.stack([first, second, count])
        mean, spread = first / (1 - _FIRST**count), second / (1 - _SECOND**count)
        step: Tensor = self.step_size * mean / (spread.sqrt() + _SMALL)
        return step
