"""A square of pixels, laid over a picture or blended into it.

    x' = x + blend (value - x)        in the square, on every channel

Source: Gu et al. 2017, BadNets, arXiv 1708.06733; Chen et al. 2017, arXiv 1712.05526 (blended); Xie et al. 2020, DBA,
ICLR (parts)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from torch import Tensor

from consilium.core.backdoor import Trigger
from consilium.core.errors import Refused
from consilium.core.plain import Json

__all__ = ["Pixels", "Place"]

Place = Literal["top-left", "top-right", "bottom-left", "bottom-right", "centre"]


@dataclass(frozen=True)
class Pixels(Trigger):
    """``size`` pixels wide and high at ``place``, in units of the inputs' range; ``blend`` 1 covers what is there.

    Of ``parts`` horizontal stripes only stripe ``part`` is laid on, counted from 0; all of them where it is None.
    """

    size: int
    place: Place = "bottom-right"
    value: float = 1.0
    blend: float = 1.0
    parts: int = 1
    part: int | None = None

    def put(self, x: Tensor) -> Tensor:
        """Pictures ``(n, c, h, w)`` with the pattern."""
        rows, columns = self._square(x.shape[-2], x.shape[-1])
        changed = x.clone()
        there = x[..., rows, columns]
        changed[..., rows, columns] = there + self.blend * (self.value - there)
        return changed

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse inputs that are no pictures, or smaller than the pattern.

        Raises Refused: they are.
        """
        if len(shape) != 3:
            raise Refused(
                f"a square of {self.size} x {self.size} pixels needs pictures, and an input has shape {shape}",
                remedy="say columns = [...] and values = [...] for a table",
                where="size",
            )
        if self.size > min(shape[1:]):
            raise Refused(
                f"a trigger of {self.size} x {self.size} pixels is larger than the picture, {shape[1]} x {shape[2]}",
                remedy=f"use a size of at most {min(shape[1:])}",
                where="size",
            )

    def configuration(self) -> dict[str, Json]:
        """Every field."""
        return {"kind": "pixels", **asdict(self)}

    def _square(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns that are changed."""
        top = {"t": 0, "b": height - self.size, "c": (height - self.size) // 2}[self.place[0]]
        middle = (width - self.size) // 2
        start = {"left": 0, "right": width - self.size, "centre": middle}[self.place.rpartition("-")[2]]
        first, last = (0, 1) if self.part is None else (self.part / self.parts, (self.part + 1) / self.parts)
        rows = slice(top + round(self.size * first), top + round(self.size * last))
        return rows, slice(start, start + self.size)
