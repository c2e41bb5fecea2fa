"""Who the adversary is, and the view that grants.

A threat model is data: the report groups attacks by it.  A view is everything an attack may touch; what is not
in the view cannot be used, and a smaller view than the attack needs is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from .errors import Refused
from .inclusion import inclusion
from .random import Stream
from .records import Records
from .task import Task

__all__ = [
    "Actor",
    "Aim",
    "BackdoorView",
    "CanaryView",
    "Knowledge",
    "ModelView",
    "QueryView",
    "RecordsView",
    "RetrainView",
    "RoundView",
    "Shadow",
    "ThreatModel",
    "View",
    "require",
]

Actor = Literal["outsider", "receiver", "site", "server"]
Knowledge = Literal["white-box", "black-box", "transfer"]
Aim = Literal["evasion", "poisoning", "membership", "attribute", "reconstruction", "extraction", "linkage", "shift"]


@dataclass(frozen=True)
class ThreatModel:
    """Who acts, at which moment, knowing what, to gain what."""

    actor: Actor
    moment: Literal["training", "inference"]
    knowledge: Knowledge
    aim: Aim


@dataclass(frozen=True, eq=False)
class View:
    """Abstract base of what an adversary is granted: at the least, what the model is asked, with how many labels."""

    classes: int
    task: Task = field(kw_only=True)


if TYPE_CHECKING:
    Granted = TypeVar("Granted", bound=View, default=Any)
else:  # a default is known to Python from 3.13 on
    Granted = TypeVar("Granted", bound=View)
"""The view that an adversary is granted; an adversary without one, such as a collection, accepts any."""


@dataclass(frozen=True, eq=False)
class ModelView(View):
    """White box: the released model itself.

    ``module`` maps x ``(n, *shape)`` to logits as they are answered, every model and answer defence included;
    ``surrogate`` is a differentiable stand-in (``module`` itself where it has gradients, None where a defence supplies
    none: the attack is then not adaptive, which its notes state).  ``targets`` are the test records.  ``source`` is
    another model on which a transfer attack crafts.  ``public`` are records of the same kind that anybody has, none of
    them a target; None where there are none.
    """

    module: nn.Module
    surrogate: nn.Module | None
    targets: Records
    source: ModelView | None = None
    public: Records | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class RecordsView(View):
    """No model: candidate records, as in :class:`QueryView`; membership is to be inferred from the records alone."""

    candidates: Records
    member: Tensor
    known: Tensor


@dataclass(frozen=True, eq=False)
class QueryView(View):
    """Black box: answers to queries, counted, and candidate records whose membership is to be inferred.

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
class Shadow(ModelView):
    """A model that the adversary trained itself; ``included`` ``(p,)`` marks the records of the pool it was trained on.

    It describes the records used, not those requested: a site whose work never reached the model is not in it.
    """

    included: Tensor = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class RetrainView(QueryView):
    """A black box, and the whole *defended* pipeline it came from, to be run again on chosen records.

    ``pool`` are all records that might have been trained on, members and non-members in random order; ``site (p,)``
    is the site of each, ``sizes (s,)`` on how many each site trains; candidate i is the pool's record ``at[i]``.
    ``retrain`` maps masks ``(m, p)`` and m seeds to m shadows: same sites, algorithm and defences of every moment, each
    site training on those of its records that the mask includes.  ``stream`` draws the shadows that attacks share.
    """

    pool: Records = field(kw_only=True)
    site: Tensor = field(kw_only=True)
    sizes: Tensor = field(kw_only=True)
    at: Tensor = field(kw_only=True)
    retrain: Callable[[Tensor, Sequence[int]], Sequence[Shadow]] = field(kw_only=True)
    stream: Stream = field(kw_only=True)

    def fit(self, included: Tensor, seeds: Sequence[int]) -> Sequence[Shadow]:
        """One shadow per row of ``included (m, p)`` bool; the same row and seed give the same shadow.

        Raises Refused: ``included`` is not one boolean row per seed over the whole pool.
        """
        if included.shape != (len(seeds), len(self.pool)) or included.dtype != torch.bool:
            reason = (
                f"masks {included.dtype} {tuple(included.shape)} for {len(seeds)} seeds and {len(self.pool)} records"
            )
            raise Refused(reason, remedy="give one boolean row per seed, over the whole pool")
        return self.retrain(included, seeds)

    def shadows(self, count: int) -> Sequence[Shadow]:
        """The first ``count`` of the shadows that all attacks on this model share; their masks are by ``inclusion``."""
        masks = inclusion(self.site, self.sizes, self.pool.units, count, self.stream)
        return self.fit(masks, [self.stream.child("seed", i).number() for i in range(count)])


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
class BackdoorView(View):
    """What shows whether a backdoor is in a released model: its answers, and those of its clean ``twin``.

    ``targets`` are the test records with their attributes; ``twin`` is None where the model is a clean one itself.
    """

    module: nn.Module
    targets: Records
    twin: nn.Module | None = None


@dataclass(frozen=True, eq=False)
class RoundView(View):
    """What is seen of one round while training: its number and the broadcast parameters and buffers."""

    round: int
    params: Tensor
    buffers: Tensor


def require(view: View, needed: type[Granted], attack: str) -> Granted:
    """``view``, refused where it shows less than ``attack`` needs.

    Raises Refused: ``view`` is not of the type that ``attack`` needs.
    """
    if not isinstance(view, needed):
        raise Refused(
            f"attack {attack} needs a {needed.__name__} and was granted a {type(view).__name__}",
            remedy="grant the view its threat model names, or choose an attack that needs less",
        )
    return view
