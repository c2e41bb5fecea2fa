"""Neural Cleanse: the smallest trigger of each class is sought; where one is far smaller than the others, unlearned.

    index_t = |n_t - median| / (1.4826 median |n - median|),   n_t: the size of the trigger of class t
    suspected: n_t below the median and index_t above ``index``

Public records with the triggers of suspected classes, under their own labels, are then learned; where no class is
suspected the model stays as it is.  The largest index is a figure of the cell, over n classes: it is compared with
numbers of the same model, and says little where there are few classes.  Records are public (LAWS 10), so no epsilon is
spent.  A trigger that is spread over the picture is not small, and a trigger for one source class is not found.

Source: Wang et al. 2019, Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks, IEEE S&P
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from consilium.core.entry import check, check_used
from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task, refuse_unless_exclusive

from ._fine_tuning import PublicFineTuning, check_gradient
from ._repaired import Repaired
from ._trigger_inversion import Inversion, anomaly_indices, invert

__all__ = ["NeuralCleanse"]

_FEWEST = 3


@dataclass(frozen=True)
class NeuralCleanse(Repaired):
    """Seeks a trigger for each class on public records, reports the anomaly index, and unlearns what stands out."""

    inspects: ClassVar[bool] = True

    act: Literal["unlearn", "report"] = "unlearn"
    """What is done about a suspected class: its trigger is unlearned, or it is reported alone."""
    index: float = 2.0
    """Anomaly index above which a class is suspected."""
    steps: int = 500
    """Steps in which the triggers are sought, of 32 public records each."""
    share: float = 0.2
    """Share of the public records that get a trigger for unlearning."""
    unlearn_steps: int = 100
    """Steps in which a trigger is unlearned."""
    lr: float = 0.01
    """Learning rate of those steps."""

    def __post_init__(self) -> None:
        check(0 < self.index <= 100, "index", self.index, "an index above 0, at most 100")
        check(1 <= self.steps <= 1_000_000, "steps", self.steps, "1 to 1000000 steps")
        check(0 < self.share <= 1, "share", self.share, "a share above 0, at most 1")
        check(1 <= self.unlearn_steps <= 1_000_000, "unlearn-steps", self.unlearn_steps, "1 to 1000000 steps")
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")
        for knob in ("share", "unlearn_steps", "lr"):
            check_used(self, knob, self.act == "unlearn", "act = 'report'")

    def fits_public(self) -> bool:
        """True: triggers are sought, and unlearned, on public records."""
        return True

    def check_task(self, task: Task) -> None:
        """Refuse what is not one class a record."""
        refuse_unless_exclusive(task, self, "a trigger is sought for each of the classes that exclude each other")

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens."""
        refuse_tokens(inputs, self, "a trigger is laid over numbers, and an id is no quantity")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse two classes: both are equally far from their median.

        Raises Refused: there are fewer than 3 classes.
        """
        if classes < _FEWEST:
            raise Refused(
                f"{self.kind()} compares the triggers of the classes, and {classes} classes are both "
                f"{1 / 1.4826:.2f} deviations from their median",
                remedy=f"use it where there are {_FEWEST} classes or more, or fine-pruning",
            )

    def trial(self, module: nn.Module, x: Tensor) -> nn.Module:
        """The same architecture; refused if unlearning finds no gradient."""
        check_gradient(copy.deepcopy(module).eval(), x, self.kind(), f"leave out {self.kind()}")
        return self.structure(module, x[:1])

    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """The model without the triggers of suspected classes; as it was where there are none.

        Raises Unlawful: no public records (law 10).
        """
        self._require(public)
        cleansed = copy.deepcopy(module).eval().requires_grad_(False)
        if self.act == "report":
            return cleansed
        inversion = self._inverted(cleansed, public, stream)
        if suspects := self._suspects(inversion.norms):
            stamped = self._stamped(public, inversion, suspects, stream)
            PublicFineTuning(self.kind(), self.unlearn_steps, self.lr).run(cleansed, stamped, stream, task, {})
        return cleansed

    def inspection(
        self, module: nn.Module, public: Records, stream: Stream, labels: Sequence[str]
    ) -> tuple[Measure, ...]:
        """``anomaly_index``, of the class with the smallest trigger, and the number of ``suspected_class``, if any.

        Raises Unlawful: no public records (law 10).
        """
        self._require(public)
        norms = self._inverted(copy.deepcopy(module).eval().requires_grad_(False), public, stream).norms
        least, n = int(norms.argmin()), len(norms)
        index = float(anomaly_indices(norms)[least])
        where = f"the smallest trigger is that of {labels[least]!r}"
        if math.isfinite(index):
            figure = Measure("anomaly_index", index, n=n, unit="deviations")
        else:
            figure = Measure.undefined("anomaly_index", f"the triggers of most classes have one size; {where}", n)
        if self._suspects(norms):
            return figure, Measure("suspected_class", float(least), n=n)
        return figure, Measure.undefined("suspected_class", f"no index is above {self.index:g}; {where}", n)

    def _inverted(self, module: nn.Module, public: Records, stream: Stream) -> Inversion:
        with torch.no_grad():
            classes = module(public.x[:1]).shape[1]
        return invert(module, public, classes, self.steps, stream.child("inversion"))

    def _suspects(self, norms: Tensor) -> list[int]:
        """The classes with a trigger that is far smaller than the others', the smallest first."""
        below = (norms < norms.quantile(0.5)) & (anomaly_indices(norms) > self.index)
        return [t for t in norms.argsort(stable=True).tolist() if below[t]]

    def _stamped(self, public: Records, inversion: Inversion, suspects: Sequence[int], stream: Stream) -> Records:
        """The public records, a share of them with one of the triggers of ``suspects``, under their own labels."""
        rows = torch.randperm(len(public), generator=stream.child("stamped").generator())
        x = public.x.clone()
        for place, row in enumerate(rows[: math.ceil(self.share * len(public))].tolist()):
            x[row] = inversion.put(x[row : row + 1], suspects[place % len(suspects)])[0]
        return replace(public, x=x)
