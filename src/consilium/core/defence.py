"""One abstract base per moment at which a defence can act, in the order in which data travels.

    data -> training -> update -> merge -> model -> answer

A technique with a site half and a server half contains both.  A defence that cannot be applied raises; it never turns
itself off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from .charge import Adjacency, Charge
from .entry import Entry
from .finding import Measure
from .gradient import GradientRule, Objective
from .inputs import Inputs, refuse_tokens
from .merge import Aggregator, Cohort
from .network import Network
from .random import Stream
from .records import Records
from .task import Task
from .threat import Aim
from .update import Payload, Update

__all__ = [
    "AnswerDefence",
    "DataDefence",
    "Defence",
    "MergeDefence",
    "ModelDefence",
    "Phase",
    "PreAggregation",
    "Promise",
    "TrainingDefence",
    "UpdateDefence",
]

Phase = Literal["pre-training", "in-training", "post-training"]


@dataclass(frozen=True)
class Defence(Entry, ABC):
    """Base of the six moments.

    ``phase``: whether it acts before, in or after the training.  ``mitigates``: the risks that it is there to lower, by
    the name of what their adversary gains.  ``uses``: the risks that it needs the model to have, as a watermark of
    planted answers needs that they can be planted: what lowers one of them later undoes it.
    """

    phase: ClassVar[Phase] = "in-training"
    mitigates: ClassVar[tuple[Aim, ...]] = ()
    uses: ClassVar[tuple[Aim, ...]] = ()

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse inputs of ``shape`` or a number of ``classes`` with which it cannot act, or does nothing."""

    def check_task(self, task: Task) -> None:
        """Refuse, with the reason, a ``task`` for which the defence has no meaning; most take any."""

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse, with the reason, ``inputs`` for which the defence has no meaning, such as tokens; most take any."""


@dataclass(frozen=True)
class Promise:
    """What the server's noise does in one round: the charge, at which ``delta`` and adjacency, and in words how sites
    come into a round.  ``rounds`` is how many of them a budget allows.
    """

    charge: Charge
    delta: float
    adjacency: Adjacency
    sampler: str
    rounds: int


@dataclass(frozen=True)
class DataDefence(Defence):
    """Changes a site's training records before anything is learned; drawn once per record and stored."""

    phase: ClassVar[Phase] = "pre-training"

    @abstractmethod
    def protect(self, records: Records, classes: int, stream: Stream) -> Records:
        """The records that are trained on."""

    @abstractmethod
    def charge(self, classes: int) -> Charge | None:
        """What was done to one record; None if no guarantee is claimed."""


@dataclass(frozen=True)
class TrainingDefence(Defence):
    """Changes the objective of local training, or the rule that makes a gradient of records.

    One that ``follows_inputs`` needs a model whose gradient in its inputs is not zero.  ``not_private`` is the reason
    why it may not stand beside a rule that makes a claim (LAWS 5), as the rest of a sentence; empty where it may.
    """

    follows_inputs: ClassVar[bool] = False
    not_private: ClassVar[str] = ""

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens where it ``follows_inputs``: no gradient leads from one word to another."""
        if self.follows_inputs:
            refuse_tokens(inputs, self, "it follows gradients in the inputs, and no step leads from an id to another")

    def objective(self, objective: Objective) -> Objective:
        """What to train for instead."""
        return objective

    def rule(self, rule: GradientRule) -> GradientRule:
        """How records become a gradient instead."""
        return rule


@dataclass(frozen=True)
class UpdateDefence(Defence):
    """Acts on an update between a site and the merge; the server half enforces what the site half is to guarantee.

    Site halves run in the order of the study, server halves in reverse.  ``stage`` is the defence's place in the one
    lawful order (LAWS 1).  What compresses or masks defines the message itself: a corrupted site ignores its duties (to
    clip, to noise), but what it sends must be such a message, else the server cannot read it.
    """

    stage: ClassVar[Literal["clip", "noise", "compress", "mask"]] = "clip"

    def made_for(self, network: Network) -> UpdateDefence:
        """This defence adapted to the layers of ``network``.  Default: self."""
        return self

    def configured_by(self, extra: Payload) -> UpdateDefence:
        """This defence configured by the round's broadcast (for example an adaptive bound).  Default: self."""
        return self

    @abstractmethod
    def protect(self, update: Update, memory: Payload, stream: Stream) -> tuple[Update, Payload]:
        """The site half, and what it keeps at the site for its next round.  A corrupted site does not run it."""

    @abstractmethod
    def enforce(self, update: Update, expected: Mapping[str, tuple[int, ...]]) -> Update:
        """The server half, applied to every update; its result has the ``expected`` names and shapes."""


@dataclass(frozen=True)
class MergeDefence(Defence):
    """Replaces the weighted mean.  ``per_site``: its noise makes a claim of each site, which binds the whole round."""

    per_site: ClassVar[bool] = False
    mitigates: ClassVar[tuple[Aim, ...]] = ("poisoning",)

    @abstractmethod
    def merge(self) -> Aggregator:
        """The merge to use."""

    def merge_for(self, cohort: Cohort, stream: Stream) -> Aggregator:
        """The merge to use among ``cohort``; noise is drawn from ``stream``."""
        return self.merge()

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse, with the numbers, a ``cohort`` of whose updates it makes no aggregate; most take any."""

    def fits_public(self) -> bool:
        """True if the server trains on public records for it, which must then exist (LAWS 10)."""
        return False

    def weakness(self, cohort: Cohort) -> str:
        """Why it does next to nothing among ``cohort``, as the rest of a sentence; empty where it does something."""
        return ""

    def promise(self, cohort: Cohort) -> Promise | None:
        """What it claims for each site of ``cohort``; None if no guarantee is claimed."""
        return None


@dataclass(frozen=True)
class PreAggregation(MergeDefence):
    """Changes the updates of a round before the merge rule that stands after it in the arm, else the weighted mean."""

    @abstractmethod
    def before(self, rule: Aggregator, stream: Stream) -> Aggregator:
        """``rule`` behind this step; what is random is drawn from ``stream``.

        Raises Refused: ``rule`` cannot stand behind it.
        """

    def cohort_behind(self, cohort: Cohort) -> Cohort:
        """The cohort that the rule behind it sees.  Default: the same."""
        return cohort


@dataclass(frozen=True)
class ModelDefence(Defence):
    """Changes a trained model.  Whatever it fits, it fits on public records or on the weights alone (LAWS 10).

    The released artefact is ``pack(module)``; it is rebuilt by ``structure`` (what the architecture becomes, weights
    arbitrary) and ``unpack``.  ``tolerance`` is how far a record's logits may differ between two batches, as a share of
    their spread: float kernels round in another order.  ``ends``: nothing can be done to the model's weights after it.
    ``answers_alone``: it changes answers and no weights, so that it stands last, after one that ``ends`` too.
    ``inspects``: it has figures of the model that it is handed (:meth:`inspection`).
    """

    phase: ClassVar[Phase] = "post-training"
    tolerance: ClassVar[float] = 1e-3
    ends: ClassVar[bool] = False
    answers_alone: ClassVar[bool] = False
    inspects: ClassVar[bool] = False

    def fits_public(self) -> bool:
        """True if ``apply`` fits something on public records, which must then exist."""
        return False

    def check_public(self, public: Records, labels: Sequence[str]) -> None:
        """Refuse, with numbers, ``public`` records of classes ``labels`` that cannot be fitted on; most take any."""

    def wanted_public(self) -> int:
        """How many public records the study requests, 0 where it sets no number; fewer are noted."""
        return 0

    def inspection(
        self, module: nn.Module, public: Records, stream: Stream, labels: Sequence[str]
    ) -> tuple[Measure, ...]:
        """What it finds in the ``module`` that it is applied to, of classes ``labels``; most find nothing.

        ``stream`` is that of ``apply``, so that both find the same.
        """
        return ()

    @abstractmethod
    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """The defended module; ``module`` is left as it was."""

    @abstractmethod
    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """The stored artefact: plain tensors, no pickle; its bytes are the model's size."""

    @abstractmethod
    def structure(self, module: nn.Module, example: Tensor) -> nn.Module:
        """The defended architecture built from an undefended one; ``example`` is one input batch ``(1, *shape)``."""

    def trial(self, module: nn.Module, x: Tensor) -> nn.Module:
        """What the untrained ``module`` becomes, tried on inputs ``x (n, *shape)`` in [0, 1]; refused if it cannot."""
        return self.structure(module, x[:1])

    @abstractmethod
    def unpack(self, module: nn.Module, artefact: Mapping[str, Tensor]) -> nn.Module:
        """``module`` (from ``structure``) holding the stored weights."""

    @abstractmethod
    def surrogate(self, defended: nn.Module, before: nn.Module | None) -> nn.Module | None:
        """A differentiable stand-in for ``defended``; ``before`` is that of the model it was built from."""


@dataclass(frozen=True)
class AnswerDefence(Defence):
    """Changes what is asked of the model or what is answered; the model stays as it is.

    An answer depends on its own record alone, and is the same whenever it is asked for: the record itself seeds what
    is random in it (``learn/record_noise.py``).
    """

    phase: ClassVar[Phase] = "post-training"

    def around(self, model: nn.Module) -> nn.Module:
        """What maps inputs to logits in place of ``model``: it may change an input, or ask several times."""
        return model

    def answer(self, probabilities: Tensor) -> Tensor:
        """The released probabilities ``(n, classes)``."""
        return probabilities.clone()

    @abstractmethod
    def surrogate(self, before: nn.Module | None) -> nn.Module | None:
        """A differentiable stand-in for the answering model; ``before`` is that of the model behind it."""

    def certificate(self, model: nn.Module, records: Records, task: Task, stream: Stream) -> tuple[Measure, ...]:
        """What it proves of the answers to ``records``, where ``model`` stands behind it; most prove nothing."""
        return ()
