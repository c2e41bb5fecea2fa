"""Training of a stored model on public records, in evaluation mode: SGD with momentum 0.9 on batches of 64.

Running statistics stay as they are.  What a defence set to 0 stays 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from consilium.core.errors import Failed, Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

__all__ = ["PublicFineTuning", "check_gradient", "public_batches"]

_BATCH, _MOMENTUM = 64, 0.9


@dataclass(frozen=True)
class PublicFineTuning:
    """``steps`` of SGD at rate ``lr`` for the defence called ``kind``."""

    kind: str
    steps: int
    lr: float

    def run(
        self, module: nn.Module, records: Records, stream: Stream, task: Task, trainable: Mapping[str, Tensor]
    ) -> None:
        """Change the parameters of ``module`` where ``trainable`` is true, by name; all of one not named there.

        Raises Failed: the weights diverged.
        """
        params = {name: p.detach() for name, p in module.named_parameters()}
        speed = {name: torch.zeros_like(p) for name, p in params.items()}
        for index in public_batches(len(records), self.steps, stream):
            leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
            x, y = (t[index].to(next(iter(params.values())).device) for t in (records.x, records.y))
            loss = task.loss(functional_call(module, leaves, (x,)), y, "mean")
            gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
            for (name, p), g in zip(params.items(), gradients, strict=True):
                speed[name].mul_(_MOMENTUM).add_(g)
                p.sub_(self.lr * speed[name] * trainable.get(name, torch.ones(())))
        if not all(p.isfinite().all() for p in params.values()):
            raise Failed(f"fine-tuning by {self.kind} diverged", remedy=f"lower {self.kind}.lr")


def check_gradient(module: nn.Module, x: Tensor, kind: str, remedy: str) -> None:
    """Refuse a ``module`` that cannot be trained, tried on ``x (n, *shape)``.

    Raises Refused: no gradient reaches the parameters.
    """
    with torch.enable_grad():
        reached = module.requires_grad_(True)(x).requires_grad
    if not reached:
        raise Refused(
            f"{kind} fine-tunes the model, and no gradient reaches its parameters",
            remedy=f"leave out torch.no_grad and .detach(), or {remedy}",
        )


def public_batches(n: int, steps: int, stream: Stream, size: int = _BATCH) -> Iterator[Tensor]:
    """``steps`` lists of at most ``size`` of ``n`` records, each pass in another order."""
    generator, queue = stream.child("fine-tune").generator(), torch.zeros(0, dtype=torch.long)
    for _ in range(steps):
        if not len(queue):
            queue = torch.randperm(n, generator=generator)
        yield queue[:size]
        queue = queue[size:]
