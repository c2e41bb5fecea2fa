"""Adversarial patch: one printed square that fools the model wherever it is stuck, whatever it is stuck on.

    maximise over the patch   E_{public record, shot} L(f(record with the patch as the shot shows it))         (EOT)

It is fitted on public records, with a random place, rotation, scale, brightness and blur for each of them, and judged
on test records: the adversary may try ``tries`` shots of each.  Its budget is an area, not a distance: within the
patch a pixel may take any value, or stay within ``radius`` of the record's if that is below 1.

Source: Brown et al. 2017, Adversarial Patch, arXiv 1712.09665; Athalye et al. 2018, arXiv 1707.07397 (EOT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.task_loss import attack_loss
from consilium.learn.pictures.camera import Camera

from ._evasion import stand_in
from ._fitted import Fitted, Patch

__all__ = ["AdversarialPatch"]

_BATCH = 64


@dataclass(frozen=True)
class AdversarialPatch(Fitted):
    """Prints one square for all records, under random rotation, scale, place, brightness and blur."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    limited_by_ball: ClassVar[bool] = False

    radius: float = 1.0
    """How far a pixel under the patch may differ from the record's; 1 is any print."""
    norm: Literal["linf"] = "linf"
    """How that is measured: the largest change of a value."""
    size: float = 0.3
    """Side of the patch as a share of the picture's shorter side."""
    steps: int = 200
    """Gradient steps, each on 64 public records at most."""
    step_size: float = 0.05
    """Length of a step, in every value of the patch."""
    rotation: float = 20.0
    """Degrees by which it may be turned either way."""
    scale: float = 0.1
    """Share by which it may look larger or smaller."""
    brightness: float = 0.2
    """Share by which it may look brighter or darker."""
    blur: float = 0.5
    """Share of a 3 x 3 mean that it may be mixed with."""
    tries: int = 10
    """Shots that are tried of each record; a record counts as fooled if any fools the model."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges.

        Raises Refused: a patch that is larger than the picture.
        """
        super().__post_init__()
        check(0 < self.radius <= 1, "radius", self.radius, "a number above 0, at most 1")
        check(self.size > 0, "size", self.size, "a share above 0")
        if self.size * (1 + self.scale) > 1:
            reason = (
                f"a patch of {self.size:g} of the picture's side, {self.scale:.0%} larger at times, is larger than it"
            )
            raise Refused(reason, remedy=f"use a size of at most {1 / (1 + self.scale):.3f}", where="size")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.tries >= 1, "tries", self.tries, "at least 1")
        check(self.step_size > 0, "step_size", self.step_size, "a number above 0")
        check(0 <= self.rotation <= 180, "rotation", self.rotation, "0 to 180 degrees")
        for knob in ("scale", "brightness", "blur"):
            check(0 <= getattr(self, knob) <= 1, knob, getattr(self, knob), "a share, 0 to 1")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse what is no picture.

        Raises Refused: inputs that are not channels, height and width.
        """
        super().check_fit(shape, classes)
        if len(shape) != 3:
            raise Refused(f"{self.kind()} has no meaning for inputs of shape {shape}: a patch is stuck on a picture")

    def camera(self) -> Camera:
        """The shots that it is fitted and judged under."""
        return Camera(self.rotation, self.scale, self.brightness, self.blur)

    def side(self, shape: torch.Size) -> int:
        """Of the patch, in pixels, at scale 1."""
        return max(1, round(self.size * min(shape[-2:])))

    def fit(self, view: ModelView, public: Records, generator: torch.Generator) -> nn.Module:
        """The patch after ``steps`` of sign ascent over random records and shots."""
        model, goal, loss = stand_in(view), self.goal_for(view.task), attack_loss("cross-entropy", view.task)
        public = public.select(goal.applies(public.y))
        side = self.side(public.x.shape)
        ink = torch.full((public.x.shape[1], side, side), 0.5, device=public.x.device)
        for step in range(self.steps):
            rows = torch.randint(len(public), (min(_BATCH, len(public)),), generator=generator, device=generator.device)
            leaf = ink.requires_grad_(True)
            pasted = self._pasted(public.x[rows], leaf, generator)
            (gradient,) = torch.autograd.grad(goal.climbed(loss, model(pasted), public.y[rows]).sum(), leaf)
            length = self.step_size * (1 - step / self.steps)
            ink = (ink.detach() + length * torch.nan_to_num(gradient).sign()).clamp(0, 1)
        return Patch(ink.detach())

    def perturb(self, fitted: nn.Module, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The first shot that fools the released model, else the last one."""
        assert isinstance(fitted, Patch)
        out, rows = x.clone(), torch.arange(len(x), device=x.device)
        with torch.no_grad():
            for _ in range(self.tries):
                # Drawn for all, so that a record's shots do not depend on who fell before.
                tried = self._pasted(x, fitted.ink, generator)[rows]
                out[rows] = tried
                rows = rows[~self.goal_for(view.task).surely(view.module(tried), y[rows])]
                if not len(rows):
                    break
        return out

    def _pasted(self, x: Tensor, ink: Tensor, generator: torch.Generator) -> Tensor:
        shots = self.camera().shots(len(x), generator)
        return self.ball().project(self.camera().pasted(x, ink, self.side(x.shape), shots), x)
