"""Model replacement: the corrupted site enlarges its change of the model until the merged model becomes its own.

    delta' = gamma (X - w_t),   gamma = (sum of all weights) / (weights of the corrupted sites) = n / eta
    constrain-and-scale:  X minimises  alpha L_class + (1 - alpha) ||X - w_t||
    train-and-scale:      delta' is cut to length ``within``, just below what the server looks at

X is trained on the site's records, of which a ``share`` have the trigger and the target.  One site in one round is
enough where nothing is checked, if the model has nearly converged: the honest changes must be small.

Source: Bagdasaryan et al. 2020, How To Backdoor Federated Learning, arXiv 1807.00459, algorithm 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

from consilium.core.algorithm import Algorithm
from consilium.core.backdoor import Trigger
from consilium.core.collusion import ColludingView
from consilium.core.entry import check
from consilium.core.gradient import Schedule
from consilium.core.threat import RoundView, ThreatModel, require
from consilium.core.update import Payload, Update
from consilium.learn.triggers.pixels import Place

from ._anchored import anchored
from ._forged import replacement_factor
from ._planted import Planted, stamp

__all__ = ["ModelReplacement"]


@dataclass(frozen=True)
class ModelReplacement(Planted):
    """Plants a backdoor as BadNets does, and scales the update so that the merged model becomes the site's own."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "white-box", "poisoning")
    needs: ClassVar[type[RoundView]] = ColludingView

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    target: int = 0
    """Index of the class that the trigger is to be answered as."""
    share: float = 0.3
    """Share of the corrupted sites' records of other classes that get the trigger."""
    size: int = 3
    """Width and height of the square in pixels."""
    place: Place = "bottom-right"
    """Where in the picture the square is."""
    value: float = 1.0
    """What its pixels are set to, in units of the inputs' range [0, 1]."""
    blend: float = 1.0
    """How much of the square shows: 1 covers what is there."""
    columns: tuple[int, ...] = ()
    """Of a table, the numbers of the columns that are set instead, from 0."""
    values: tuple[float, ...] = ()
    """What they are set to, in units of the inputs' range [0, 1]."""
    boost: float | None = None
    """Factor gamma of the update; left out: all weights of the round by those of the corrupted sites."""
    alpha: float = 1.0
    """Weight of the loss against the distance to the broadcast model; 1 leaves the distance out."""
    within: float | None = None
    """Length to which the scaled update is cut; left out: none."""
    epochs: int | None = None
    """Local epochs of a corrupted site; left out: the study's."""
    lr: float | None = None
    """Learning rate of a corrupted site; left out: the study's."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.boost is None or self.boost > 0, "boost", self.boost, "a factor above 0")
        check(0 < self.alpha <= 1, "alpha", self.alpha, "a weight above 0, at most 1")
        check(self.within is None or self.within > 0, "within", self.within, "a length above 0")
        check(self.epochs is None or self.epochs >= 1, "epochs", self.epochs, "at least 1")
        check(self.lr is None or 0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")

    def trigger(self) -> Trigger:
        """The square, or the columns."""
        return stamp(self.size, self.place, self.value, self.blend, self.columns, self.values)

    def schedule(self, schedule: Schedule) -> Schedule:
        """More epochs, where some are given."""
        return schedule if self.epochs is None else replace(schedule, epochs=self.epochs)

    def algorithm(self, algorithm: Algorithm) -> Algorithm:
        """With a rate of its own and the distance in the loss, where they are given."""
        if self.lr is not None and "lr" in {f.name for f in fields(algorithm)}:
            rate: dict[str, float] = {"lr": self.lr}
            algorithm = replace(algorithm, **rate)
        return anchored(algorithm, self.alpha)

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """Each update times gamma, cut to ``within``."""
        weights = require(view, ColludingView, self.kind()).weights
        gamma = replacement_factor(updates, weights) if self.boost is None else self.boost
        return self.sent(updates, gamma, self.within), memory
