"""Square attack: random search over squares at the edge of the ball, by answers alone.

    linf   a square of each channel goes to x + radius or x - radius; the start is stripes of one column
    l2     the change of one square moves to another as two opposed bumps, and the length stays the radius
    l1     the same with steeper bumps

A change that raises the margin is kept.  Squares have the share p of the image, which falls from ``share`` by halves on
the published schedule; at each query all records of a batch try the same place, which costs nothing in strength.
Where a square would change nothing the opposite sign is tried, so that no query is lost.  Inputs that are no pictures
are taken as one row of features.

A model that withstands gradients and falls to this hides its gradients (LAWS 26).

Source: Andriushchenko et al. 2020, Square Attack, arXiv 1912.00049; Croce and Hein 2021, arXiv 2103.01208 (l1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm, per_row

from ._black_box import Answers, BlackBox
from ._sparse_squares import MOVES
from ._squares import Moves

__all__ = ["Square"]

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries, those after which the squares have half the area."""


@dataclass(frozen=True)
class Square(BlackBox):
    """Tries random squares at the edge of the ball and keeps what raises the margin; needs no gradient."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    queries: int = 5000
    """Answers that a record may cost, all restarts together."""
    restarts: int = 1
    """Random starts among which the queries are divided; a record counts as fooled if any fools the model."""
    share: float = 0.8
    """Share of the image that a square has at first."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.restarts >= 1, "restarts", self.restarts, "at least 1")
        check(
            self.queries > self.restarts,
            "queries",
            self.queries,
            f"at least {self.restarts + 1}: the record's and a start's",
        )
        check(0 < self.share <= 1, "share", self.share, "a share of the image above 0, at most 1")

    def search(self, answers: Answers, x: Tensor, generator: torch.Generator) -> Tensor:
        """The first point that fools the model; else the one of largest margin of the last start."""
        pictures = x if x.dim() == 4 else x.reshape(len(x), 1, 1, -1)
        out, rows = pictures.clone(), torch.arange(len(x), device=x.device)
        rows = rows[~answers.reached(x, rows)]
        moves = MOVES[self.norm](self.radius, generator)
        for restart in range(self.restarts):
            if len(rows):
                tries = (self.queries - 1 + restart) // self.restarts
                rows = self._climb(answers, moves, pictures, rows, self._sizes(tries, pictures.shape[2:]), out)
        return out.view_as(x)

    def _climb(
        self, answers: Answers, moves: Moves, x: Tensor, rows: Tensor, sizes: Sequence[tuple[int, int]], out: Tensor
    ) -> Tensor:
        """One start: best points go to ``out``, and the rows that withstood are returned."""
        centre = x[rows]
        best = moves.start(centre)
        loss, reached = answers.scores(best, rows)
        for height, width in sizes:
            if bool(reached.any()):
                out[rows[reached]] = best[reached]
                rows, centre, best, loss = rows[~reached], centre[~reached], best[~reached], loss[~reached]
                if not len(rows):
                    return rows
            point = moves.moved(centre, best, height, width)
            higher, reached = answers.scores(point, rows)
            better = (higher > loss) | reached
            best, loss = torch.where(per_row(better, best), point, best), torch.where(better, higher, loss)
        out[rows] = best
        return rows[~reached]

    def _sizes(self, tries: int, shape: Sequence[int]) -> list[tuple[int, int]]:
        """Height and width of the square of each query after the first."""
        height, width = shape
        sizes = []
        for step in range(tries - 1):
            area = self.share / 2 ** sum(step * 10_000 // tries > bound for bound in _HALVINGS) * height * width
            side = min(max(1, round(math.sqrt(area))), height)
            sizes.append((side, min(max(1, round(area / side)), width)))
        return sizes
