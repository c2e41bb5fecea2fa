"""What training defences owe each other: one perturbs the inputs, none carries state into private steps.

The reason is that of each defence; the law under which an arm is refused for it is in ``study.plan.rules``.
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.core.defence import TrainingDefence
from consilium.core.errors import Refused, Unlawful
from consilium.learn.mean_gradient import MeanGradient

__all__ = ["check_training"]


def check_training(defences: Sequence[TrainingDefence], rounds: int) -> None:
    """Refuse ``defences`` that may not train one model together, in so many ``rounds``.

    Raises Unlawful: two of them perturb inputs (law 1), or one may not stand beside a private rule (law 5).
    Raises Refused: a knob of one does nothing, or is never reached.
    """
    _one_perturbs(defences)
    _may_be_private(defences)
    for place, defence in enumerate(defences):
        knobs = defence.configuration()
        _is_reached(defence, knobs.get("warm-up", 0), rounds)
        if knobs.get("views") == "first" and "augmentation" not in (d.kind() for d in defences[:place]):
            raise Refused(
                f"{defence.kind()}: views = 'first' does nothing where no augmentation stands before it",
                remedy=f"name augmentation before {defence.kind()}, or leave out views",
            )


def _one_perturbs(defences: Sequence[TrainingDefence]) -> None:
    several = [defence.kind() for defence in defences if defence.follows_inputs]
    if len(several) > 1:
        raise Unlawful(
            f"{' and '.join(several)} both perturb the inputs, and their radii would add up",
            law=1,
            remedy="keep one of them",
        )


def _may_be_private(defences: Sequence[TrainingDefence]) -> None:
    private = next((d.kind() for d in defences if not d.not_private and d.rule(MeanGradient()).delta is not None), None)
    for defence in defences:
        if private and defence.not_private:
            raise Unlawful(
                f"{defence.kind()} may not stand beside {private}: {defence.not_private}",
                law=5,
                remedy="use adversarial-training with steps = 1, which crafts anew in each step",
            )


def _is_reached(defence: TrainingDefence, warm_up: object, rounds: int) -> None:
    if isinstance(warm_up, int) and warm_up >= rounds:
        raise Refused(
            f"{defence.kind()}: warm-up = {warm_up} rounds ends after the last of {rounds}, so the whole radius is "
            "never trained on",
            remedy=f"use a warm-up below {rounds}" if rounds > 1 else "leave out warm-up",
        )
