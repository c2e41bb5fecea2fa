"""A study's folder as the report reads it: the evidence, and the content of the files around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from consilium.core.finding import Measure
from consilium.evidence.cell import CellEvidence
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.round import RoundEvidence
from consilium.evidence.study import StudyEvidence

__all__ = ["CellRecord", "FindingRecord", "StudyRecord"]


@dataclass(frozen=True)
class FindingRecord(FindingEvidence):
    """What the attack ``name`` found; ``file`` holds its scores, if they are there as they were written."""

    name: str = ""
    file: Path | None = None


@dataclass(frozen=True)
class CellRecord(CellEvidence):
    """A cell of the plan with its evidence; ``attacks`` are its findings in the order in which they were written.

    ``status`` is ok, failed, started (killed before it ended), missing (planned, no evidence in the folder) or altered:
    one of its files was changed or replaced, listed in ``altered``.  ``unsealed`` is a note of older evidence.
    ``file`` holds its answers to each test record, ``written`` is whether there is evidence to show.
    """

    attacks: tuple[FindingRecord, ...] = ()
    file: Path | None = None
    altered: str = ""
    unsealed: str = ""
    written: bool = False

    @property
    def digest(self) -> str:
        """The name of its folder."""
        return self.cell.digest

    @property
    def choices(self) -> Mapping[str, str]:
        """What was chosen on each axis."""
        return self.cell.choices

    @property
    def infected_by(self) -> str:
        """The adversary inside the training, "none" without one."""
        return self.cell.infected_by

    @property
    def ok(self) -> bool:
        """True where everything that was planned for the cell ended well."""
        return self.status == "ok"

    @cached_property
    def worst_case(self) -> Measure | None:
        """As the study wrote it, else from the attacks' masks, which are read once; None without an evasion attack."""
        from .scores import worst_case_accuracy  # it reads records

        stored = next((m for f in self.attacks if f.kind == "worst-case" for m in f.measures), None)
        return stored or (worst_case_accuracy(self) if self.aimed("evasion") else None)

    @property
    def red_flags(self) -> tuple[str, ...]:
        """What its attacks noted against every accuracy under attack of this model, each with the attack's name."""
        return tuple(f"{finding.name}: {flag}" for finding in self.aimed("evasion") for flag in finding.red_flags)

    def aimed(self, aim: str) -> tuple[FindingRecord, ...]:
        """The findings whose adversary has the goal ``aim``."""
        return tuple(f for f in self.attacks if f.aim == aim)


@dataclass(frozen=True)
class StudyRecord(StudyEvidence):
    """A whole folder: ``evidence`` of its cells in the order of the plan, ``rounds`` by training.

    ``altered`` lists its changed or replaced files, ``unread`` by training what of its rounds
    cannot be read.
    """

    folder: Path = Path()
    evidence: tuple[CellRecord, ...] = ()
    rounds: Mapping[str, tuple[RoundEvidence, ...]] = field(default_factory=dict)
    altered: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def infections(self) -> tuple[str, ...]:
        """Who sat in the training: "none" first, then each corruption."""
        labels = dict.fromkeys(cell.infected_by for cell in self.evidence)
        return ("none", *(label for label in labels if label != "none"))

    def attacks(self, aim: str) -> tuple[str, ...]:
        """Names of all attacks with this aim, in the order in which they first appear."""
        return tuple(dict.fromkeys(f.name for cell in self.evidence for f in cell.aimed(aim)))

    def arm_cells(self, arm: str, infected_by: str) -> tuple[CellRecord, ...]:
        """The cells of one arm under one corruption, or clean, a seed each."""
        return tuple(c for c in self.evidence if c.arm == arm and c.infected_by == infected_by)
