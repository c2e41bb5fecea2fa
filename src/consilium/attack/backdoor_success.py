"""Whether a backdoor is in a model: the share of test records that the trigger turns into the target.

    success = #{ i : y_i != target, the trigger fits, f(trigger(x_i)) = target } / #{ i : y_i != target, it fits }

Every corruption that plants a backdoor is judged so, on its infected twin and on every other model of the study: the
clean twin's rate is the chance level.  Who is answered as the target without the trigger is counted beside it.

Source: Gu et al. 2017, BadNets, arXiv 1708.06733
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from consilium.core.attack import Attack
from consilium.core.backdoor import Backdoor
from consilium.core.finding import Finding, Measure
from consilium.core.plain import Json
from consilium.core.records import Records
from consilium.core.task import Task
from consilium.core.threat import BackdoorView, ThreatModel
from consilium.core.update import Payload
from consilium.measure.clustered import share_measure

__all__ = ["BackdoorSuccess"]

_BATCH = 512
_SHOWN = 8
_NAMES = ("backdoor_success", "target_rate_without_trigger")


@dataclass(frozen=True)
class BackdoorSuccess(Attack[BackdoorView]):
    """The success of one ``backdoor`` on the model at hand."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")
    needs: ClassVar[type[BackdoorView]] = BackdoorView
    nist: ClassVar[str] = "NISTAML.023"

    backdoor: Backdoor

    def configuration(self) -> dict[str, Json]:
        """The kind, the trigger and the target."""
        return {"kind": self.kind(), **self.backdoor.configuration()}

    def run(self, view: BackdoorView, memory: Payload, generator: torch.Generator) -> Finding:
        """Scores: ``success`` and ``without`` (n,) bool with the ids of the records.  Examples: up to eight records."""
        backdoor = self.backdoor
        records = view.targets.select(backdoor.judged(view.targets))
        if not len(records):
            reason = "no test record of another class than the target has the trigger"
            return Finding(tuple(Measure.undefined(name, reason) for name in _NAMES), notes=(reason,))
        others = records if backdoor.trigger.stamped else _without(view.targets, backdoor)
        triggered = backdoor.trigger.put(records.x)
        answered, plain = (_answers(view.module, x, view.task) for x in (triggered, others.x))
        success, without = answered == backdoor.target, plain == backdoor.target
        twin = None if view.twin is None else _answers(view.twin, triggered, view.task) == backdoor.target
        return Finding(
            (_rate(_NAMES[0], success, records.units, twin), _rate(_NAMES[1], without, others.units, None)),
            scores={"success": success, "id": records.ids},
            examples=_examples(records, triggered, answered) if backdoor.trigger.stamped else {},
            notes=(_note(backdoor, success, without),),
        )


def _without(records: Records, backdoor: Backdoor) -> Records:
    """The records of other classes than the target that have no trigger."""
    return records.select(~backdoor.trigger.carried(records) & (records.y != backdoor.target))


def _answers(module: nn.Module, x: Tensor, task: Task) -> Tensor:
    """The classes answered ``(n,)``."""
    with torch.no_grad():
        parts = [task.predicted(module(x[i : i + _BATCH])) for i in range(0, len(x), _BATCH)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def _rate(name: str, hits: Tensor, units: Tensor, twin: Tensor | None) -> Measure:
    if not len(hits):
        return Measure.undefined(name, "every test record of another class than the target has the trigger")
    chance = None if twin is None else int(twin.sum()) / len(hits)
    return share_measure(name, hits, units, chance)


def _examples(records: Records, triggered: Tensor, answered: Tensor) -> dict[str, Tensor]:
    shown = slice(0, _SHOWN)
    return {"clean": records.x[shown], "adversarial": triggered[shown], "label": records.y[shown],
            "answer_after": answered[shown]}  # fmt: skip


def _note(backdoor: Backdoor, success: Tensor, without: Tensor) -> str:
    return (
        f"With the trigger {int(success.sum())} of {len(success)} test records of other classes are answered as class "
        f"{backdoor.target}; without it {int(without.sum())} of {len(without)}."
    )
