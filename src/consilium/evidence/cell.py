"""``cells/DIGEST/evidence.json``: one model with one seed, and everything that was found about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .audit import AuditEvidence
from .fields import ABSENT, Flag, Free, Maybe, Name, Record, Seconds, Table, Text, Texts, Whole, Wholes
from .finding import Findings
from .measure import Measures
from .merge import MergeEvidence
from .privacy import PrivacyEvidence
from .threat import ThreatEvidence

__all__ = ["CellEvidence", "CellName"]


@dataclass(frozen=True)
class CellName:
    """Which cell of the study this is; ``infected_by`` is "none" for a clean one."""

    digest: Text = ""
    arm: Text = ""
    choices: Table[Text] = field(default_factory=dict)
    seed: Whole = 0
    infected_by: Text = ""


@dataclass(frozen=True)
class CellEvidence:
    """Fields are only ever added; what an older version did not write has the default of its field here.  The repr
    leaves out the long ones.

    ``status`` is started, ok or failed, and ``error`` the reason.  ``mediators`` measure how members are answered apart
    from others (:mod:`consilium.measure.mediators`).  ``findings`` are those of the study's attacks,
    ``set_aside`` those of attacks that the study no longer has, ``audits`` those of findings that are audits.
    ``engine`` is its name, or its record once something was trained.  ``scores`` names the file of what the model
    answered of each test record; ``released`` has the digests of the model that was judged, ``trained`` those of the
    files that its training left; ``adversary`` is who acted inside it, of an infected model.
    """

    schema: Whole = 1
    status: Text = ""
    error: Name = None
    cell: Record[CellName] = field(default_factory=CellName)
    given: Free = field(default_factory=dict, repr=False)
    resolved: Free = field(default_factory=dict, repr=False)
    training: Name = None
    model: Name = None
    code: Free = field(default_factory=dict, repr=False)
    packages: Free = field(default_factory=dict, repr=False)
    hardware: Free = field(default_factory=dict, repr=False)
    engine: object = field(default=None, repr=False)
    seeds: Wholes = ()
    corrupted: Texts = ()
    privacy: Record[PrivacyEvidence] = field(default_factory=PrivacyEvidence, repr=False)
    utility: Measures = field(default=(), repr=False)
    mediators: Measures = field(default=(), repr=False)
    scores: Name = None
    scores_sha256: Name = field(default=None, repr=False)
    cost: Measures = field(default=(), repr=False)
    findings: Findings = field(default_factory=dict, repr=False)
    set_aside: Findings = field(default_factory=dict, repr=False)
    audits: Table[Record[AuditEvidence]] = field(default_factory=dict, repr=False)
    merge: Maybe[MergeEvidence] = field(default=None, repr=False)
    collapsed: Flag = False
    notes: Texts = field(default=(), repr=False)
    seconds: Seconds = field(default_factory=dict, repr=False)
    released: Maybe[Free] = field(default=None, metadata=ABSENT, repr=False)
    trained: Maybe[Free] = field(default=None, metadata=ABSENT, repr=False)
    adversary: Maybe[ThreatEvidence] = field(default=None, metadata=ABSENT, repr=False)

    @property
    def arm(self) -> str:
        """The name of the arm."""
        return self.cell.arm

    @property
    def seed(self) -> int:
        """The seed."""
        return self.cell.seed

    @property
    def judged(self) -> bool:
        """True where the model was evaluated: its measures are valid, even if an attack failed later."""
        return bool(self.utility)
