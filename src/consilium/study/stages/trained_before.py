"""A model that existed before the study: its weights are known, and nothing of how it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from consilium.evidence.privacy import PrivacyEvidence
from consilium.evidence.round import RoundReport
from consilium.study.evaluate.draft import Draft
from consilium.study.plan.nodes import TrainedModelCell
from consilium.study.plan.privacy_claims import privacy_record

from .context import StageContext
from .model_origin import ModelOrigin

__all__ = ["TrainedBefore"]


@dataclass(frozen=True, eq=False)
class TrainedBefore(ModelOrigin):
    """That of ``cell``."""

    context: StageContext
    cell: TrainedModelCell

    def weights(self) -> tuple[Tensor, Tensor]:
        """Those of its file."""
        return self.context.network(self.cell).start()

    def personal(self) -> None:
        """No site has one here."""

    def rounds(self) -> list[RoundReport]:
        """None are known."""
        return []

    @property
    def target_accuracy(self) -> float:
        """There are no rounds to count."""
        return 0.0

    def record_merges(self, draft: Draft, rounds: Sequence[RoundReport]) -> None:
        """There were none."""

    def privacy(self) -> PrivacyEvidence:
        """Nothing is claimed."""
        return privacy_record((), ["An existing model: nothing is known of how it was trained, so nothing is claimed."])

    def retraining(self, sites: tuple[str, ...]) -> None:
        """There is no training to run again."""

    def replay(self) -> None:
        """Nobody watched."""
