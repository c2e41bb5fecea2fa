"""Light spots: a few smooth blobs of light on the object, as an infrared LED makes them, placed by answers alone.

    x' = min(1, x + sum_k b_k exp(-|p - c_k|^2 / 2 r_k^2))        b_k <= radius (brightness), r_k <= spot_radius

Place, radius and brightness of every spot are searched at random: a change is kept where the margin rises, and changes
become smaller as the queries run out.  With ``jitter`` the spots are shaken at every query, so that what is kept does
not hang on one exact place.  Its budget is the number, size and brightness of spots, not a distance.

Source: Zhou et al. 2018, Invisible Mask: Practical Attacks on Face Recognition with Infrared, arXiv 1803.04683.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.threat import ThreatModel
from consilium.learn.pictures.camera import lit

from ._black_box import Answers, BlackBox

__all__ = ["LightSpots"]


@dataclass(frozen=True)
class LightSpots(BlackBox):
    """Searches where to shine a few smooth spots of light on the object, by answers alone."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")
    limited_by_ball: ClassVar[bool] = False

    radius: float = 0.5
    """How much brighter a pixel may become, in units of the inputs' range [0, 1]."""
    norm: Literal["linf"] = "linf"
    """How that is measured: the largest change of a value."""
    queries: int = 500
    """Answers that a record may cost."""
    spots: int = 3
    """Spots on each record."""
    spot_radius: float = 0.15
    """Largest radius of a spot, as a share of the picture's shorter side."""
    jitter: float = 0.0
    """By how much the spots are shaken at every query, as a share of the picture's sides."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(0 < self.radius <= 1, "radius", self.radius, "a number above 0, at most 1")
        check(self.queries >= 2, "queries", self.queries, "at least 2: the record's and one of spots")
        check(self.spots >= 1, "spots", self.spots, "at least 1")
        check(0 < self.spot_radius <= 0.5, "spot_radius", self.spot_radius, "a share above 0, at most 0.5: the picture")
        check(0 <= self.jitter < 0.5, "jitter", self.jitter, "a share of at least 0, below 0.5")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse what is no picture.

        Raises Refused: inputs that are not channels, height and width.
        """
        super().check_fit(shape, classes)
        if len(shape) != 3:
            raise Refused(f"{self.kind()} has no meaning for inputs of shape {shape}: light falls on a picture")

    def search(self, answers: Answers, x: Tensor, generator: torch.Generator) -> Tensor:
        """The first spots that fool the model; else those of the largest margin."""
        out, rows = x.clone(), torch.arange(len(x), device=x.device)
        rows = rows[~answers.reached(x, rows)]
        best, loss = (
            torch.zeros(len(x), self.spots, 4, device=x.device),
            torch.full((len(x),), -math.inf, device=x.device),
        )
        for step in range(self.queries - 1):
            if not len(rows):
                break
            spots = self._drawn(x, generator) if step == 0 else self._moved(best[rows], step, generator)
            points = self._lit(x[rows], spots if step else spots.expand(len(rows), -1, -1), generator)
            higher, reached = answers.scores(points, rows)
            better = (higher > loss[rows]) | reached
            improved = rows[better]
            best[improved], loss[improved] = spots.expand(len(rows), -1, -1)[better], higher[better]
            out[improved] = points[better]
            rows = rows[~reached]
        return out

    def _drawn(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Spots ``(1, k, 4)`` anywhere, of any size and brightness allowed."""
        u = torch.rand(1, self.spots, 4, generator=generator, device=generator.device, dtype=like.dtype)
        return u.to(like.device) * self._most(like)

    def _moved(self, spots: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """``spots`` with one of them changed, on average by less and less; now and then it is drawn anew."""
        fresh = self._drawn(spots, generator)[0, 0]
        share = (1 - step / self.queries) ** 2 if step % 4 else 1.0
        number = int(torch.randint(self.spots, (1,), generator=generator, device=generator.device))
        after = spots.clone()
        after[:, number] = (1 - share) * spots[:, number] + share * fresh
        return after

    def _most(self, like: Tensor) -> Tensor:
        return torch.tensor([1.0, 1.0, self.spot_radius, self.radius], device=like.device, dtype=like.dtype)

    def _lit(self, x: Tensor, spots: Tensor, generator: torch.Generator) -> Tensor:
        shake = 2 * torch.rand(1, self.spots, 2, generator=generator, device=generator.device, dtype=x.dtype) - 1
        places = spots[..., :2] + self.jitter * shake.to(x.device)
        shaken = torch.cat([places, spots[..., 2:]], 2)
        # Where spots overlap their light adds up; no pixel becomes brighter than the budget allows.
        return torch.minimum(lit(x, shaken), x + self.radius)
