"""Who the adversary is, and the view that grants.

A threat model is data: the report groups attacks by it.  A view is everything an attack may touch; what is not
in the view cannot be used, and a smaller view than the attack needs is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from .errors import Refused
from .records import Records

__all__ = [
    "Actor",
    "Aim",
    "CanaryView",
    "Knowledge",
    "ModelView",
    "QueryView",
    "RoundView",
    "ThreatModel",
    "View",
    "require",
]

Actor = Literal["outsider", "receiver", "site", "server"]
Knowledge = Literal["white-box", "black-box", "transfer"]
Aim = Literal["evasion", "poisoning", "membership", "attribute", "reconstruction", "extraction", "linkage"]


@dataclass(frozen=True)
class ThreatModel:
    """Who acts, at which moment, knowing what, to gain what."""

    actor: Actor
    moment: Literal["training", "inference"]
    knowledge: Knowledge
    aim: Aim


@dataclass(frozen=True, eq=False)
class View:
    """Abstract base of what an adversary is granted."""

    classes: int


@dataclass(frozen=True, eq=False)
class ModelView(View):
    """White box: the released model itself.

    ``module`` maps x ``(n, *shape)`` to logits as they are answered, every model and answer defence included;
    ``surrogate`` is a differentiable stand-in (``module`` itself where it has gradients, None where a defence supplies
    none: the attack is then not adaptive and says so).  ``targets`` are the test records.  ``source`` is another model
    on which a transfer attack crafts.
    """

    module: nn.Module
    surrogate: nn.Module | None
    targets: Records
    source: ModelView | None = None


@dataclass(frozen=True, eq=False)
class QueryView(View):
    """Black box: answers to queries, counted, and candidate records whose membership is to be told.

    ``answer`` maps x to logits as they are answered.  ``candidates`` are half calibration (``known`` True: the
    adversary may learn its threshold there) and half judgement; ``member`` is the truth, for scoring.
    """

    answer: Callable[[Tensor], Tensor]
    candidates: Records
    member: Tensor
    known: Tensor
    queries: list[int] = field(default_factory=lambda: [0])

    def ask(self, x: Tensor) -> Tensor:
        """Logits for ``x``; every record counts as one query."""
        self.queries[0] += len(x)
        with torch.no_grad():
            return self.answer(x)


@dataclass(frozen=True, eq=False)
class CanaryView(View):
    """An audit's canaries, and a released model that some of them were trained into: which ones is not shown.

    ``answer`` maps x to logits as they are answered.  A white-box attack also gets the model before training and after
    it, ``start`` and ``module``, both with gradients; ``module`` is None where a defence supplies none.
    """

    answer: Callable[[Tensor], Tensor]
    canaries: Records
    start: nn.Module | None = None
    module: nn.Module | None = None


@dataclass(frozen=True, eq=False)
class RoundView(View):
    """What is seen of one round while training: its number and the broadcast parameters and buffers."""

    round: int
    params: Tensor
    buffers: Tensor


def require(view: View, needed: type[View], attack: str) -> None:
    """Refuse a view that shows less than ``attack`` needs."""
    if not isinstance(view, needed):
        raise Refused(
            f"attack {attack} needs a {needed.__name__} and was granted a {type(view).__name__}",
            remedy="grant the view its threat model names, or choose an attack that needs less",
        )
