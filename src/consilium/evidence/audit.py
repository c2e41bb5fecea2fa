"""What an audit on canaries found, beside what is claimed: ``audits`` in a cell's evidence (LAWS 16)."""

from __future__ import annotations

from dataclasses import dataclass, field

from .fields import Flag, Maybe, Name, Number, Record, Text, Texts, Whole
from .threat import ThreatEvidence

__all__ = ["AuditBound", "AuditEvidence", "ClaimTerms"]


@dataclass(frozen=True)
class ClaimTerms:
    """The claim that an audit is compared with."""

    epsilon: Number = None
    record_epsilon: Number = None
    delta: Number = None
    unit: Text = ""
    adjacency: Text = ""
    sampler: Text = ""
    accountant: Text = ""


@dataclass(frozen=True)
class AuditBound:
    """A lower bound of epsilon (:class:`consilium.measure.audit.Bound`) and by whom it was found."""

    epsilon: Number = None
    delta: Number = None
    confidence: Number = None
    canaries: Whole = 0
    included: Whole = 0
    guesses: Whole = 0
    right: Whole = 0
    assumption: Text = ""
    adversary: Record[ThreatEvidence] = field(default_factory=ThreatEvidence)


@dataclass(frozen=True)
class AuditEvidence:
    """``exceeded``: the bound without assumption is above the claim, which fails the cell."""

    claimed: Maybe[ClaimTerms] = None
    audited: Record[AuditBound] = field(default_factory=AuditBound)
    gaussian: Record[AuditBound] = field(default_factory=AuditBound)
    exceeded: Flag = False
    warned: Flag = False
    verdict: Name = ""
    notes: Texts = ()
