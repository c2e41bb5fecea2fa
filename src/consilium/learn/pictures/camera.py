"""What printing and a camera do to a patch on its way into a picture; and light that falls on it.

    picture' = (1 - m) picture + m patch',      patch' = blur(brightness * patch) turned by an angle, at a place

m is 1 within the turned square and falls to 0 over its edge.  All of it is differentiable in the patch, so that the
expectation over random shots can be climbed (EOT).

Source: Athalye et al. 2018, Synthesizing Robust Adversarial Examples, arXiv 1707.07397 (expectation over shots)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from consilium.core.errors import Refused

__all__ = ["Camera", "Shots", "lit"]


@dataclass(frozen=True, eq=False)
class Shots:
    """One for each picture: ``angle (n,)`` in radians, ``scale``, ``brightness``, ``blur (n,)`` from 0 (none) to 1, and
    the ``place (n, 2)`` of the patch, down and across, as a share of the room that there is."""

    angle: Tensor
    scale: Tensor
    brightness: Tensor
    blur: Tensor
    place: Tensor


@dataclass(frozen=True)
class Camera:
    """How far a shot may differ from a straight one: degrees, and shares of size, brightness and blur."""

    rotation: float = 20.0
    scale: float = 0.1
    brightness: float = 0.2
    blur: float = 0.5

    def shots(self, n: int, generator: torch.Generator) -> Shots:
        """``n`` uniform draws, on the generator's device."""
        u = torch.rand(n, 6, generator=generator, device=generator.device)
        either = 2 * u[:, :3] - 1
        return Shots(
            math.radians(self.rotation) * either[:, 0],
            1 + self.scale * either[:, 1],
            1 + self.brightness * either[:, 2],
            self.blur * u[:, 3],
            u[:, 4:],
        )

    def pasted(self, x: Tensor, patch: Tensor, side: int, shots: Shots) -> Tensor:
        """``patch (channels, k, k)`` in ``x (n, channels, height, width)``, ``side`` pixels wide at scale 1.

        Raises Refused: the patch is larger than the picture.
        """
        height, width = x.shape[2:]
        if side > min(height, width):
            raise Refused(f"a patch of {side} pixels is larger than pictures of {height} x {width}")
        ink = _seen(patch, shots)
        both = torch.cat([ink, torch.ones_like(ink[:, :1])], 1)
        grid = F.affine_grid(_turned(side, height, width, shots), [len(x), 1, height, width], align_corners=False)
        sampled = F.grid_sample(both, grid, padding_mode="zeros", align_corners=False)
        # At the edge colour and mask are both mixed with nothing, so that their quotient is the colour.
        mask = sampled[:, -1:]
        return (x * (1 - mask) + sampled[:, :-1]).clamp(0, 1)


def lit(x: Tensor, spots: Tensor) -> Tensor:
    """Pictures ``x (n, channels, height, width)`` under ``spots (n, k, 4)``: down, across, radius, brightness.

    Places and radii are shares of the height, the width and the shorter side.
    """
    height, width = x.shape[2:]
    down, across = (torch.arange(size, device=x.device, dtype=x.dtype) + 0.5 for size in (height, width))
    spread = (2 * (spots[..., 2] * min(height, width)).square().clamp_min(1e-6))[:, :, None]
    rows = torch.exp(-(down - spots[..., :1] * height).square() / spread)
    columns = torch.exp(-(across - spots[..., 1:2] * width).square() / spread)
    light = torch.einsum("nk,nkh,nkw->nhw", spots[..., 3], rows, columns)
    return (x + light[:, None]).clamp(max=1)


def _seen(patch: Tensor, shots: Shots) -> Tensor:
    """The patch of every shot ``(n, channels, k, k)``, as bright and as blurred as it is seen."""
    blurred = F.avg_pool2d(F.pad(patch[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    share = shots.blur.view(-1, 1, 1, 1).to(patch)
    bright = shots.brightness.view(-1, 1, 1, 1).to(patch)
    return (bright * ((1 - share) * patch + share * blurred)).clamp(0, 1)


def _turned(side: int, height: int, width: int, shots: Shots) -> Tensor:
    """The affine map ``(n, 2, 3)`` from places of the picture to places of the patch, both in [-1, 1]."""
    size = (side * shots.scale).clamp(max=min(height, width))
    corner = torch.stack([(length - side) * shots.place[:, axis] for axis, length in enumerate((height, width))], 1)
    centre = corner.round() + side / 2
    cos, sin = shots.angle.cos() * 2 / size, shots.angle.sin() * 2 / size
    rows = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)
    down, across = centre[:, 0] - height / 2, centre[:, 1] - width / 2
    shift = -(rows @ torch.stack([across, down], 1)[:, :, None])
    scaled = rows * torch.tensor([width / 2, height / 2], device=rows.device)
    return torch.cat([scaled, shift], 2)
