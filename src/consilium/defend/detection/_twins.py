"""Public records and what PGD makes of them on the model itself: what a detector learns from that is shown attacks.

All steps are taken: a twin that stops at the boundary would teach what a hesitant answer looks like, and nothing else.

Source: Madry et al. 2018, arXiv 1706.06083
"""

from __future__ import annotations

from torch import Tensor, nn

from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.linf import Linf
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

__all__ = ["adversarial_twins"]


def adversarial_twins(
    model: nn.Module, records: Records, radius: float, steps: int, stream: Stream, task: Task
) -> Tensor:
    """An adversarial input for each of ``records``, in the L-infinity ball of ``radius``."""
    ball = Linf(radius)
    return maximise(
        model,
        records.x,
        records.y,
        ball=ball,
        steps=steps,
        step_size=ball.step_size(steps),
        generator=stream.child("twins").generator(records.x.device),
        loss=attack_loss("margin", task),
        goal=Misclassification(task),
    )
