"""What a study accepts, when that was stated, and what became of it: ``accept`` in ``study.json``."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import Flag, Items, Name, Number, Record, Text, Texts, Whole

__all__ = ["AcceptanceEvidence", "StatementEvidence", "ThresholdEvidence", "VerdictEvidence"]


@dataclass(frozen=True)
class ThresholdEvidence:
    """One threshold: of an ``attack``'s figure or the model's own; of one ``arm`` or all; under a ``corruption``."""

    measure: Text = ""
    attack: Name = None
    arm: Name = None
    corruption: Name = None
    at_least: Number = None
    at_most: Number = None


@dataclass(frozen=True)
class StatementEvidence:
    """Thresholds under their ``sha256`` (canonical JSON), and when they were first written here (UTC).

    ``after_figures``: a figure of this folder was known by then, so they were not stated before the run.
    """

    thresholds: Items[Record[ThresholdEvidence]] = ()
    sha256: Text = ""
    stated: Text = ""
    after_figures: Flag = False


@dataclass(frozen=True)
class VerdictEvidence:
    """The ``threshold`` of that number (from 0) for one arm: met, not met or undecided, and on what figure."""

    threshold: Whole = 0
    arm: Text = ""
    verdict: Text = ""
    reason: Text = ""
    value: Number = None
    low: Number = None
    high: Number = None
    n: Whole = 0
    seeds: Whole = 0


@dataclass(frozen=True)
class AcceptanceEvidence(StatementEvidence):
    """What is stated now, the ``earlier`` statements that it took the place of, and the verdicts at the run's end."""

    earlier: Items[Record[StatementEvidence]] = ()
    verdicts: Items[Record[VerdictEvidence]] = ()
    notes: Texts = ()
