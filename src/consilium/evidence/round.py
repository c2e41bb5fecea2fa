"""A line of ``rounds.jsonl``: who took part in a round, what was sent, and how good the model was after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import ABSENT, Count, Items, Maybe, Number, Record, Text, Texts, Whole
from .merge import LargestShare

__all__ = ["RefusedSite", "RoundEvidence", "RoundReport", "SitePoint"]

RoundReport = Mapping[str, Any]
"""One line of ``rounds.jsonl`` as it was read: the fields of :class:`RoundEvidence` in plain JSON."""


@dataclass(frozen=True)
class SitePoint:
    """One site in one round, judged on its own held-out records; ``reason`` states why it reported no figures."""

    site: Text = ""
    n: Whole = 0
    accuracy: Number = None
    loss: Number = None
    reason: Text = ""


@dataclass(frozen=True)
class RefusedSite:
    """A site whose update the server turned away, and why."""

    site: Text = ""
    reason: Text = ""


@dataclass(frozen=True)
class RoundEvidence:
    """``absent`` names the first of ``absent_count`` sites that could not be asked.

    ``aborted`` is the reason why the round made no model, ``broken`` counts models that were not finite.
    ``backdoor_success`` is that of the training's corruption, on the first ``backdoor_records`` test records that the
    trigger fits: the study looks at them, no site and no server.
    """

    round: Whole = 0
    seconds: Number = None
    cohort: Texts = ()
    absent: Texts = ()
    absent_count: Whole = 0
    dropped: Texts = ()
    late: Texts = ()
    slow: Texts = ()
    aborted: Text = ""
    broken: Whole = 0
    largest_share: Maybe[LargestShare] = None
    bytes_up: Number = None
    bytes_down: Number = None
    mean_accuracy: Number = None
    worst_accuracy: Number = None
    mean_loss: Number = None
    sites: Items[Record[SitePoint]] = ()
    refused: Items[Record[RefusedSite]] = ()
    backdoor_success: Number = field(default=None, metadata=ABSENT)
    backdoor_records: Count = field(default=None, metadata=ABSENT)
