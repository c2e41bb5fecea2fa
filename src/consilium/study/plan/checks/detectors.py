"""What may stand around a detector, which looks at the record that was asked about, and before it."""

from __future__ import annotations

from consilium.core.defence import AnswerDefence, ModelDefence
from consilium.core.detection import Detector
from consilium.core.errors import Refused
from consilium.study.spec.arms import Arm

__all__ = ["check_detectors", "may_follow"]


def check_detectors(arm: Arm) -> None:
    """Refuse a defence of the answer that shows the model another input than the record, or several.

    Raises Refused: one stands in an arm with a detector.
    """
    detector = next((one.kind() for one in arm.model if isinstance(one, Detector)), None)
    around = next((one.kind() for one in arm.answer if type(one).around is not AnswerDefence.around), None)
    if detector is not None and around is not None:
        raise Refused(
            f"{around} shows the model another input than the record, and {detector} judges the record",
            remedy=f"put {detector} and {around} on one axis as alternatives",
        )


def may_follow(then: ModelDefence, one: ModelDefence) -> bool:
    """Whether ``then`` may stand after ``one``, which ends what is done to the weights: a detector stands last."""
    if isinstance(one, Detector):
        return False
    return isinstance(then, Detector) if one.answers_alone else then.answers_alone
