"""A model that may reject an input: its answers stay as they are, and beside them stands a suspicion of each input.

    rejected:  suspicion(x) > threshold

The threshold is set on public records for a stated rate of false positives.  A rejected input has no answer: under
attack that is no success of the attacker, and on a clean input it is an error.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .defence import ModelDefence
from .entry import check
from .errors import Unlawful
from .inputs import Inputs, refuse_tokens
from .records import Records
from .task import Task, refuse_unless_exclusive
from .threat import Aim

__all__ = ["Detecting", "Detector", "detector_of"]


class Detecting(nn.Module, ABC):
    """x -> the logits of ``model``; ``fitted`` are the tensors of its detector, of which one is the ``threshold``."""

    def __init__(self, model: nn.Module, fitted: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(fitted)
        for name, tensor in fitted.items():
            self.register_buffer(name, tensor)

    def fitted(self) -> dict[str, Tensor]:
        """What was fitted, by name."""
        return {name: self.get_buffer(name) for name in self.names}

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        logits: Tensor = self.model(x)
        return logits

    @abstractmethod
    def suspicion(self, x: Tensor) -> Tensor:
        """How unlike a public record each input is ``(n,)``, with a gradient in x; it depends on no other input."""

    def answered(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and suspicion; what both need is computed once."""
        return self(x), self.suspicion(x)

    def rejects(self, x: Tensor) -> Tensor:
        """Which inputs are above the threshold, bool ``(n,)``."""
        with torch.no_grad():
            return self.suspicion(x) > self.get_buffer("threshold")


def detector_of(module: nn.Module) -> Detecting | None:
    """The detector in a released ``module`` or in its stand-in; None without one."""
    return next((part for part in module.modules() if isinstance(part, Detecting)), None)


@dataclass(frozen=True)
class Detector(ModelDefence, ABC):
    """Base of the detectors: a defence of the model that changes no weight and rejects inputs.

    One that ``splits`` fits on half of the public records and sets its threshold on the other half, which its fit has
    not seen; else the threshold is set on all of them.
    """

    mitigates: ClassVar[tuple[Aim, ...]] = ("evasion",)
    ends: ClassVar[bool] = True
    answers_alone: ClassVar[bool] = True
    splits: ClassVar[bool] = True

    false_positives: float = 0.05
    """Share of clean inputs that may be rejected: the threshold is that quantile of public records."""

    def __post_init__(self) -> None:
        check(0 < self.false_positives < 1, "false-positives", self.false_positives, "a share above 0 and below 1")

    def fits_public(self) -> bool:
        """True: its threshold at the least."""
        return True

    def check_task(self, task: Task) -> None:
        """Refuse what is not one class a record."""
        refuse_unless_exclusive(task, self, "it looks at the answers of classes that exclude each other")

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens: what it is attacked with moves numbers."""
        refuse_tokens(inputs, self, "it detects inputs whose numbers were moved, and an id is no quantity")

    def check_public(self, public: Records, labels: Sequence[str]) -> None:
        """Refuse too few records for a quantile, or for a half of each class.

        Raises Unlawful: with the number there is and the number needed (law 10).
        """
        needed = math.ceil(1 / self.false_positives - 1e-9) - 1
        needed = 2 * needed if self.splits else needed
        if len(public) < needed:
            raise Unlawful(
                f"{self.kind()} sets its threshold for {self.false_positives:g} false positives and there are "
                f"{len(public)} public records; it needs {needed}",
                law=10,
                remedy="set data.public higher, or allow more false positives",
            )
        counts = torch.bincount(public.y.cpu(), minlength=len(labels)).tolist()
        few = [name for name, n in zip(labels, counts, strict=True) if n < 2]
        if self.splits and few:
            raise Unlawful(
                f"{self.kind()} fits on one half of the public records and needs 2 of each class, and {few[0]!r} has "
                f"{counts[list(labels).index(few[0])]}",
                law=10,
                remedy="set data.public higher",
            )
