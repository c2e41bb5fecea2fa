"""Calibrate: a temperature and a bias per class, fitted on the public slice, between the model and its answer.

    p(k | x)  ~  exp(z_k(x) / T + b_k) * prior_k / public_k

Label skew at the sites and the noise of DP-SGD shift all logits of a class together: records are still ranked right,
and the threshold is lost.  Fitting needs few records, changes no weight and spends no epsilon: it sees the model and
public records alone (LAWS 10), so it is lawful in every arm.  With a ``prior`` the answers are those for a population
of such shares of the classes (equal ones: the threshold of balanced accuracy) instead of the public slice's own.

It is the last thing done to a model: prune, then static-int8, then calibrate, which sees what they did to the logits.
The largest logit of two models that differ by T alone is the same, so T moves confidences and b moves labels.

Source: Guo et al. 2017, arXiv 1706.04599 (temperature); Alexandari et al. 2020, arXiv 1901.06852 (a bias per class
too); Saerens et al. 2002, Neural Computation 14:21 (another prior)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from consilium.core.defence import ModelDefence
from consilium.core.entry import check
from consilium.core.errors import Failed, Refused, Unlawful
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task, refuse_unless_exclusive

from ._calibrated import Calibrated
from ._calibration_fit import fit_calibration
from ._sparse import pack_smaller, unpack_smaller

__all__ = ["Calibrate"]

_BATCH = 256


@dataclass(frozen=True)
class Calibrate(ModelDefence):
    """Fits a temperature and a bias per class on the public slice, and changes no weight; the last thing done."""

    ends: ClassVar[bool] = True
    answers_alone: ClassVar[bool] = True

    fit: Literal["temperature-and-bias", "temperature", "bias"] = "temperature-and-bias"
    """What is fitted: confidences (temperature), labels (bias), or both."""
    prior: tuple[float, ...] = ()
    """Shares of the classes, in their order, that answers are for, such as [1, 1]; left out: the public slice's."""

    def __post_init__(self) -> None:
        positive = all(0 < share < float("inf") for share in self.prior)
        check(positive and len(self.prior) != 1, "prior", list(self.prior), "a positive number for each class")

    def fits_public(self) -> bool:
        """True: all of it."""
        return True

    def check_task(self, task: Task) -> None:
        """Refuse what is not one class a record."""
        refuse_unless_exclusive(task, self, "it fits a bias for each of the classes that exclude each other")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse a prior of another number of classes.

        Raises Refused: the prior does not give one share for each class.
        """
        if self.prior and len(self.prior) != classes:
            raise Refused(
                f"calibrate.prior has {len(self.prior)} shares and there are {classes} classes",
                remedy=f"give {classes} positive numbers in the order of the classes",
            )

    def check_public(self, public: Records, labels: Sequence[str]) -> None:
        """Refuse a public slice that lacks a class: its bias would be minus infinity.

        Raises Unlawful: a class has no public record (law 10).
        """
        missing = [name for name, n in zip(labels, _counts(public.y, len(labels)).tolist(), strict=True) if not n]
        if missing and (self.fit != "temperature" or self.prior):
            raise Unlawful(
                f"calibrate fits a bias for each class, and none of the {len(public)} public records is of "
                f"{missing[0]!r}" + (f" and {len(missing) - 1} more classes" if len(missing) > 1 else ""),
                law=10,
                remedy="set data.public higher, or calibrate.fit = 'temperature' without a prior",
            )

    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """``module`` with its logits scaled and shifted as the ``public`` records ask for.

        Raises Unlawful: no public records to fit on, or none of some class (law 10).
        Raises Failed: the model's answers to public records are not finite.
        """
        if not len(public):
            raise Unlawful("calibrate has no public records to fit on", law=10, remedy="set data.public above 0")
        module = copy.deepcopy(module).eval()
        logits, y = _answers(module, public.x), public.y.cpu()
        self.check_public(public, [str(number) for number in range(logits.shape[1])])
        self.check_fit(tuple(public.x.shape[1:]), logits.shape[1])
        if not bool(logits.isfinite().all()):
            raise Failed("calibrate: the model's answers to public records are not finite", remedy="train it otherwise")
        best = fit_calibration(logits, y, self.fit != "bias", self.fit != "temperature")
        shift = best.bias + (self._prior_shift(y, logits.shape[1]) if self.prior else 0)
        return Calibrated(module, torch.tensor(best.scale).float(), (shift - shift.mean()).float())

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """All tensors end to end, int8 codes as they are; of a pruned model the zeros are left out."""
        return pack_smaller(module)

    def structure(self, module: nn.Module, example: Tensor) -> nn.Module:
        """The architecture of ``module``, with a factor of 1 and no shift."""
        module = copy.deepcopy(module).eval().requires_grad_(False)
        return Calibrated.unfitted(module, _answers(module, example).shape[1])

    def unpack(self, module: nn.Module, artefact: Mapping[str, Tensor]) -> nn.Module:
        """The stored model: the same logits to the last bit."""
        return unpack_smaller(module, artefact)

    def surrogate(self, defended: nn.Module, before: nn.Module | None) -> nn.Module | None:
        """The stand-in of the model behind it, scaled and shifted alike.

        Raises Failed: ``defended`` is not a calibrated model.
        """
        if not isinstance(defended, Calibrated):
            raise Failed("calibrate was handed a model that it did not calibrate", remedy="name it last")
        return None if before is None else Calibrated(before, defended.factor, defended.shift)

    def _prior_shift(self, y: Tensor, classes: int) -> Tensor:
        """log(prior / public share) for each class, ``(classes,)``."""
        wanted = torch.tensor(self.prior, dtype=torch.float64)
        return (wanted / wanted.sum()).log() - (_counts(y, classes) / len(y)).double().log()


def _counts(y: Tensor, classes: int) -> Tensor:
    return torch.bincount(y.cpu(), minlength=classes)


@torch.no_grad()
def _answers(module: nn.Module, x: Tensor) -> Tensor:
    """Logits ``(n, classes)`` on the CPU, a batch at a time."""
    device = next((t.device for t in module.parameters()), x.device)
    return torch.cat([module(part.to(device)).cpu() for part in torch.split(x, _BATCH)])
