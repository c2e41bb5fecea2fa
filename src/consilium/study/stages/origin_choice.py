"""From a cell to where its model comes from."""

from __future__ import annotations

from consilium.study.plan.nodes import CellNode, TrainedModelCell, TrainingCell

from .context import StageContext
from .model_origin import ModelOrigin
from .trained_before import TrainedBefore
from .trained_here import TrainedHere

__all__ = ["origin_of"]


def origin_of(context: StageContext, cell: CellNode) -> ModelOrigin:
    """By the kind of ``cell``.  Raises TypeError for one of neither kind."""
    match cell:
        case TrainingCell():
            return TrainedHere(context, cell)
        case TrainedModelCell():
            return TrainedBefore(context, cell)
    raise TypeError(f"{type(cell).__name__} is no kind of cell")
