"""What a study of a trained model cannot say: nothing in it acts while a model is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from consilium.core.defence import AnswerDefence, ModelDefence
from consilium.core.errors import Refused

from .spec import Choice

__all__ = ["refuse_training", "without_algorithms"]


def refuse_training(tables: Mapping[str, Any], corruptions: Sequence[object]) -> None:
    """Refuse, among the ``tables`` of a study, those that belong to a training, and ``corruptions``.

    Raises Refused: a federation, an audit by canaries, or a corruption.
    """
    if "federation" in tables:
        raise Refused(
            "a study of a trained model trains nothing",
            remedy="remove [federation], or choose a model to train",
            where="federation",
        )
    if "audit" in tables:
        raise Refused(
            "canaries belong to a training, and an existing model has had its own",
            remedy="remove [audit], or train a model",
            where="audit",
        )
    if corruptions:
        raise Refused("a study of a trained model trains nothing: nothing can be infected", where="corruptions[0]")


def without_algorithms(choices: tuple[Choice, ...], where: str) -> tuple[Choice, ...]:
    """``choices`` as they are; refused where one acts in a training, for nothing switches itself off.

    Raises Refused: an algorithm, a model, or a defence of neither the model nor its answers.
    """
    if any(choice.algorithm is not None for choice in choices):
        raise Refused(
            "a study of a trained model trains nothing, so no algorithm can be varied",
            remedy="remove the axis",
            where=where,
        )
    if any(choice.model is not None for choice in choices):
        raise Refused(
            "a study of a trained model is of one model, which is there",
            remedy="remove the axis, and write a study for each model",
            where=where,
        )
    for defence in (defence for choice in choices for defence in choice.defences):
        if not isinstance(defence, ModelDefence | AnswerDefence):
            raise Refused(
                f"a study of a trained model trains nothing, so {defence.kind()} cannot act",
                remedy="choose defences of the model or of its answers",
                where=where,
            )
    return choices
