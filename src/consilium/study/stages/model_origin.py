"""What releasing, judging and attacking a cell ask of where its model comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from consilium.evidence.privacy import PrivacyEvidence
from consilium.evidence.round import RoundReport
from consilium.study.evaluate.draft import Draft
from consilium.study.evaluate.observer_replay import ObserverReplay
from consilium.study.evaluate.personalised import Personal
from consilium.study.evaluate.shadow_training import Retraining

__all__ = ["ModelOrigin"]


class ModelOrigin(ABC):
    """Abstract base."""

    @abstractmethod
    def weights(self) -> tuple[Tensor, Tensor]:
        """Parameters ``(d,)`` and buffers ``(b,)`` before any defence of the model."""

    @abstractmethod
    def personal(self) -> Personal | None:
        """The sites' own models, where the algorithm makes some."""

    @abstractmethod
    def rounds(self) -> list[RoundReport]:
        """The reports of its rounds."""

    @property
    @abstractmethod
    def target_accuracy(self) -> float:
        """The accuracy until which rounds and bytes are counted; 0 for none."""

    @abstractmethod
    def record_merges(self, draft: Draft, rounds: Sequence[RoundReport]) -> None:
        """Write what carried the ``rounds``, and how they were merged."""

    @abstractmethod
    def privacy(self) -> PrivacyEvidence:
        """What is claimed of the model."""

    @abstractmethod
    def retraining(self, sites: tuple[str, ...]) -> Callable[[], Retraining] | None:
        """What trains shadows on records of ``sites``; None where there is no training to run again."""

    @abstractmethod
    def replay(self) -> ObserverReplay | None:
        """What observers have seen of its rounds; None where there were none."""
