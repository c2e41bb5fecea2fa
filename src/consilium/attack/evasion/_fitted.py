"""What the attacks share that fit something on public records, once, and use it on every test record.

A subclass writes ``fit`` and ``perturb``.  Nothing of the test set is seen while fitting, so what is measured holds for
records that the adversary has never met.  Without public records such an attack is refused at plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import final

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView

from ._evasion import Evasion

__all__ = ["Fitted", "FittedView", "Patch"]


class Patch(nn.Module):
    """A square ``ink (channels, side, side)`` in [0, 1]."""

    ink: Tensor

    def __init__(self, ink: Tensor) -> None:
        super().__init__()
        self.register_buffer("ink", ink)


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedView(ModelView):
    """A view with what was ``fitted`` before the first batch."""

    fitted: nn.Module


@dataclass(frozen=True)
class Fitted(Evasion, ABC):
    """Fits a module on public records and perturbs every test record with it."""

    def fits_public(self) -> bool:
        """It does."""
        return True

    @abstractmethod
    def fit(self, view: ModelView, public: Records, generator: torch.Generator) -> nn.Module:
        """What is learned from ``public`` about the model of ``view``; the targets are not looked at."""

    @abstractmethod
    def perturb(self, fitted: nn.Module, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial inputs for one batch, in [0, 1] and within the budget."""

    @final
    def prepared(self, view: ModelView, generator: torch.Generator) -> ModelView:
        """With what ``fit`` learned.

        Raises Refused: there are no public records.
        """
        if view.public is None or not len(view.public):
            raise Refused(
                f"{self.kind()} is fitted on public records and there are none",
                remedy="set data.public to the share to take out before partition, for example 0.05",
            )
        shown = {f.name: getattr(view, f.name) for f in fields(ModelView)}
        return FittedView(**shown, fitted=self.fit(view, view.public, generator))

    @final
    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """What ``perturb`` makes of one batch; it is fitted first where that was not done for the whole test set."""
        prepared = view if isinstance(view, FittedView) else self.prepared(view, generator)
        assert isinstance(prepared, FittedView)
        return self.perturb(prepared.fitted, prepared, x, y, generator)
