"""``study.json``: the study as given and as resolved, its data, its arms with refusals, its cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator

from .acceptance import AcceptanceEvidence
from .fields import (
    ABSENT,
    Code,
    Count,
    Flag,
    Free,
    Items,
    Maybe,
    Name,
    Number,
    Record,
    Table,
    Text,
    Texts,
    Whole,
    Wholes,
)

__all__ = [
    "ArmEvidence",
    "CellEntry",
    "DataEvidence",
    "DefenceEvidence",
    "OmissionEvidence",
    "RefusalEvidence",
    "RepeatedEvidence",
    "StudyEvidence",
]


@dataclass(frozen=True)
class RefusalEvidence:
    """Why an arm was not run: the law that forbids it, the reason, what to do instead."""

    law: Code = ""
    reason: Text = ""
    remedy: Text = ""

    @property
    def title(self) -> str:
        """``LAWS 10``; unchanged where it is no number."""
        return f"LAWS {self.law}" if str(self.law).isdigit() else str(self.law)


@dataclass(frozen=True)
class ArmEvidence:
    """One combination of choices, such as ``{"privacy": "dp-sgd", "compression": "none"}``: lawful or refused."""

    name: Text = ""
    choices: Table[Text] = field(default_factory=dict)
    status: Text = ""
    refusal: Maybe[RefusalEvidence] = None


@dataclass(frozen=True)
class DefenceEvidence:
    """A defence of the choice ``label`` on an axis: its phase, the risks it mitigates and those it needs the model to
    have, as its entry declares them (:class:`consilium.core.defence.Defence`).
    """

    axis: Text = ""
    label: Text = ""
    kind: Text = ""
    phase: Text = ""
    mitigates: Texts = ()
    uses: Texts = ()


@dataclass(frozen=True)
class OmissionEvidence:
    """What of a source's data is left out or changed; the fields of :class:`consilium.core.records.Omission`."""

    what: Text = ""
    count: Whole = 0
    site: Text = ""
    examples: Texts = ()


@dataclass(frozen=True)
class DataEvidence:
    """What the study was run on; ``label_counts[label][site]`` counts training records.

    ``bundled`` is unknown, and so false, where nothing states that the records are public.
    """

    name: Text = ""
    provenance: Text = ""
    bundled: Flag = False
    shape: Wholes = ()
    classes: Texts = ()
    sites: Texts = ()
    label_counts: Items[Wholes] = ()
    pools: Free = field(default_factory=dict)
    removed: Free = field(default_factory=dict)
    omitted: Items[Record[OmissionEvidence]] = ()
    notes: Texts = ()


@dataclass(frozen=True)
class CellEntry:
    """A cell as the plan has it; ``seal`` is that of its evidence, as far as it is done."""

    digest: Text = ""
    arm: Text = ""
    seed: Whole = 0
    infected_by: Text = ""
    training: Name = None
    model: Name = None
    status: Text = ""
    seal: Name = None


@dataclass(frozen=True)
class RepeatedEvidence:
    """How many ``stages`` were done twice, by workers that took each other for dead; ``unequal`` ended otherwise.

    Equal ones are a check of determinism that cost nothing.
    """

    stages: Whole = 0
    unequal: Texts = ()


def _command(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class StudyEvidence:
    """``study`` is what was written by its author, ``resolved`` has every default filled in.

    ``accept`` is there once thresholds were stated in this folder, also where they were withdrawn.  ``trainings`` has
    the digests of what each finished training left, by the training's digest.
    """

    schema: Whole = 1
    name: Text = ""
    question: Text = ""
    study: Free = field(default_factory=dict)
    resolved: Free = field(default_factory=dict)
    axes: Table[Texts] = field(default_factory=dict)
    defences: Items[Record[DefenceEvidence]] = ()
    seeds: Wholes = ()
    data: Record[DataEvidence] = field(default_factory=DataEvidence)
    arms: Items[Record[ArmEvidence]] = ()
    cells: Items[Record[CellEntry]] = ()
    command: Annotated[Text, BeforeValidator(_command)] = ""
    threads: Count = None
    device: Text = ""
    created: Text = ""
    seconds: Number = None
    repeated: Maybe[RepeatedEvidence] = field(default=None, metadata=ABSENT)
    accept: Maybe[AcceptanceEvidence] = field(default=None, metadata=ABSENT)
    trainings: Maybe[Free] = field(default=None, metadata=ABSENT)
