"""What every detector shares: fitted on public records, calibrated on those it was not fitted on, stored, rebuilt.

    threshold = k-th smallest suspicion of m public records,   k = ceil((1 - false positives) (m + 1))

With it a record of the same distribution is rejected with a probability of at most the stated share.

Source: Vovk et al. 2005, Algorithmic Learning in a Random World (the quantile with m + 1)
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.core.detection import Detecting, Detector
from consilium.core.errors import Failed, Unlawful
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task
from consilium.defend.model._sparse import pack_smaller, unpack_smaller

__all__ = ["FittedDetector", "halves", "quantile"]

_PREFIX = "detector."
_BATCH = 256


@dataclass(frozen=True)
class FittedDetector(Detector, ABC):
    """A subclass writes ``fit`` and ``detecting``."""

    @abstractmethod
    def fit(self, model: nn.Module, records: Records, stream: Stream, task: Task) -> dict[str, Tensor]:
        """What is fitted on public ``records``, by name, without the threshold."""

    @abstractmethod
    def detecting(self, model: nn.Module, fitted: Mapping[str, Tensor]) -> Detecting:
        """``model`` with its detector, of which ``fitted`` is empty where no input is looked at yet."""

    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """``module`` with a detector fitted on the ``public`` records.

        Raises Unlawful: no public records (law 10).
        Raises Failed: a suspicion is not finite.
        """
        if not len(public):
            reason = f"{self.kind()} has no public records to fit on"
            raise Unlawful(reason, law=10, remedy="set data.public above 0")
        module = copy.deepcopy(module).eval().requires_grad_(False)
        with torch.no_grad():
            classes = module(public.x[:1]).shape[1]
        self.check_public(public, [str(number) for number in range(classes)])
        first, second = halves(public) if self.splits else (public, public)
        fitted = self.fit(module, first, stream, task)
        unset = self.detecting(module, {**fitted, "threshold": torch.tensor(math.inf)})
        with torch.no_grad():
            suspicion = torch.cat([unset.suspicion(part) for part in torch.split(second.x, _BATCH)])
        if not bool(suspicion.isfinite().all()):
            raise Failed(f"{self.kind()}: the suspicion of a public record is not finite", remedy="use more of them")
        return self.detecting(module, {**fitted, "threshold": quantile(suspicion, self.false_positives)}).eval()

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """The model as it would be stored without a detector, and what was fitted."""
        detecting = self._own(module)
        stored = pack_smaller(detecting.model)
        return {**stored, **{f"{_PREFIX}{name}": tensor for name, tensor in detecting.fitted().items()}}

    def structure(self, module: nn.Module, example: Tensor) -> nn.Module:
        """The architecture of ``module`` with an empty detector; refused where it could not look at an input."""
        module = copy.deepcopy(module).eval().requires_grad_(False)
        self.check_model(module, example)
        return self.detecting(module, {})

    def check_model(self, module: nn.Module, example: Tensor) -> None:
        """Refuse a ``module`` that the detector cannot look into; one that reads answers alone takes any."""

    def unpack(self, module: nn.Module, artefact: Mapping[str, Tensor]) -> nn.Module:
        """The stored model: the same logits and suspicions to the last bit."""
        model = self._own(module).model
        model = unpack_smaller(model, artefact)
        fitted = {n.removeprefix(_PREFIX): t for n, t in artefact.items() if n.startswith(_PREFIX)}
        return self.detecting(model, fitted).eval()

    def surrogate(self, defended: nn.Module, before: nn.Module | None) -> nn.Module | None:
        """The stand-in of the model behind it, with the same detector: an attacker knows it and follows it."""
        return None if before is None else self.detecting(before, self._own(defended).fitted())

    def _own(self, module: nn.Module) -> Detecting:
        if not isinstance(module, Detecting):
            raise Failed(f"{self.kind()} was handed a model that it did not defend", remedy="name it last")
        return module


def quantile(suspicion: Tensor, false_positives: float) -> Tensor:
    """The k-th smallest of ``suspicion (m,)``; the largest where m is too small for the share."""
    m = len(suspicion)
    k = min(m, math.ceil((1 - false_positives) * (m + 1) - 1e-9))
    return suspicion.sort().values[k - 1]


def halves(public: Records) -> tuple[Records, Records]:
    """Two halves of ``public`` with about as many of each class: every second record, sorted by class."""
    order = torch.argsort(public.y, stable=True)
    return public.select(order[::2]), public.select(order[1::2])
