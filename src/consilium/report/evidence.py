"""What a study's folder says, as frozen records: the only thing that this room knows about a study.

The records mirror the files field by field (``study.json``, ``rounds.jsonl``, ``evidence.json``); free-form parts
stay plain mappings, because they are shown as they are.  Nothing here reads a file: see :mod:`.read`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.finding import Measure
from ..core.records import Omission

__all__ = [
    "ArmRecord",
    "CellRecord",
    "DataRecord",
    "FindingRecord",
    "PrivacyRecord",
    "Refusal",
    "RoundRecord",
    "SitePoint",
    "StudyRecord",
]


@dataclass(frozen=True)
class Refusal:
    """Why an arm was not run: the law that forbids it, the reason, what to do instead."""

    law: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class ArmRecord:
    """One combination of choices, such as ``{"privacy": "dp-sgd", "compression": "none"}``."""

    name: str
    choices: Mapping[str, str]
    status: str
    refusal: Refusal | None


@dataclass(frozen=True)
class DataRecord:
    """What the study was run on; ``label_counts[label][site]`` counts training records."""

    name: str
    provenance: str
    bundled: bool
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    sites: tuple[str, ...]
    label_counts: tuple[tuple[int, ...], ...]
    pools: Mapping[str, Any]
    removed: Mapping[str, Any]
    notes: tuple[str, ...]
    omitted: tuple[Omission, ...] = ()


@dataclass(frozen=True)
class SitePoint:
    """One site in one round, judged on its own held-out records."""

    site: str
    n: int
    accuracy: float | None
    loss: float | None


@dataclass(frozen=True)
class RoundRecord:
    """One line of ``rounds.jsonl``; ``refused`` holds (site, reason) pairs, ``absent`` is a number of sites."""

    round: int
    seconds: float | None
    cohort: tuple[str, ...]
    bytes_up: float | None
    bytes_down: float | None
    mean_accuracy: float | None
    worst_accuracy: float | None
    mean_loss: float | None
    sites: tuple[SitePoint, ...]
    refused: tuple[tuple[str, str], ...]
    absent: int = 0
    dropped: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    aborted: str = ""


@dataclass(frozen=True)
class FindingRecord:
    """What one attack found in one cell; ``scores`` is the safetensors file beside it, if there is one."""

    name: str
    kind: str
    status: str
    error: str
    threat: Mapping[str, str]
    configuration: Mapping[str, Any]
    measures: tuple[Measure, ...]
    notes: tuple[str, ...]
    seconds: float | None
    scores: Path | None

    @property
    def aim(self) -> str:
        """What the adversary gains, or "other" where the threat model does not say."""
        return self.threat.get("aim", "") or "other"

    @property
    def upper_bound(self) -> bool:
        """True where the attack was not adapted to the defence, so its figures flatter the model (LAWS 20)."""
        said = [*self.notes, *(m.reason for m in self.measures)]
        return any("adaptive" in text.lower() or "upper bound" in text.lower() for text in said)

    def measure(self, name: str) -> Measure | None:
        """The measure called ``name``, if there is one."""
        return next((m for m in self.measures if m.name == name), None)


@dataclass(frozen=True)
class PrivacyRecord:
    """The claims of one released model; ``epsilon`` is the maximum over sites of one unit, None without one.

    ``record_epsilon`` bounds what tells whether a record was in; None where no claim does.
    """

    epsilon: float | None
    record_epsilon: float | None
    delta: float | None
    unit: str
    claims: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CellRecord:
    """One model with one seed, and everything that was found about it.

    ``status`` is ok, failed, started (killed before it ended), missing (planned, no evidence in the folder) or altered:
    one of its files is not the one that was written, as ``altered`` says.  ``unsealed`` is a note of older evidence.
    ``scores`` is the safetensors file of what it answered of each test record, if there is one; ``raw`` is the evidence
    as written, for what later versions add.
    """

    digest: str
    arm: str
    choices: Mapping[str, str]
    seed: int
    infected_by: str
    status: str
    error: str
    training: str
    model: str
    privacy: PrivacyRecord
    utility: tuple[Measure, ...]
    cost: tuple[Measure, ...]
    findings: tuple[FindingRecord, ...]
    collapsed: bool
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    raw: Mapping[str, Any] = field(repr=False)
    scores: Path | None = None
    altered: str = ""
    unsealed: str = ""

    @property
    def ok(self) -> bool:
        """True where everything that was planned for the cell ended well."""
        return self.status == "ok"

    @property
    def judged(self) -> bool:
        """True where the model was judged: what was measured stands, even if an attack failed later."""
        return bool(self.utility)

    def aimed(self, aim: str) -> tuple[FindingRecord, ...]:
        """The findings whose adversary wants ``aim``, in the order in which they were written."""
        return tuple(f for f in self.findings if f.aim == aim)


@dataclass(frozen=True)
class StudyRecord:
    """A whole folder; ``altered`` says which of its files are not those that were written."""

    folder: Path
    name: str
    question: str
    given: Mapping[str, Any]
    resolved: Mapping[str, Any]
    axes: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    data: DataRecord
    arms: tuple[ArmRecord, ...]
    cells: tuple[CellRecord, ...]
    rounds: Mapping[str, tuple[RoundRecord, ...]]
    command: str
    threads: int | None
    device: str
    created: str
    seconds: float | None
    altered: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    """By training: what of its rounds cannot be read."""

    @property
    def infections(self) -> tuple[str, ...]:
        """Who sat in the training: "none" first, then each corruption."""
        found = dict.fromkeys(cell.infected_by for cell in self.cells)
        return ("none", *(label for label in found if label != "none"))

    def attacks(self, aim: str) -> tuple[str, ...]:
        """Names of all attacks with this aim, in the order in which they first appear."""
        return tuple(dict.fromkeys(f.name for cell in self.cells for f in cell.aimed(aim)))

    def arm_cells(self, arm: str, infected_by: str) -> tuple[CellRecord, ...]:
        """The cells of one arm under one infection, a seed each."""
        return tuple(c for c in self.cells if c.arm == arm and c.infected_by == infected_by)
