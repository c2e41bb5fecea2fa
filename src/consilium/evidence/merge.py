"""How much each site counted in a training's merges: ``merge`` in a cell's evidence."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import Items, Maybe, Number, Record, Text, Whole

__all__ = ["LargestShare", "MergeEvidence", "SiteWeight"]


@dataclass(frozen=True)
class SiteWeight:
    """One site: its number of records, its weight, and its share where every site takes part."""

    site: Text = ""
    records: Whole = 0
    weight: Number = None
    share: Number = None


@dataclass(frozen=True)
class LargestShare:
    """The site that counted most in a round."""

    site: Text = ""
    share: Number = None


@dataclass(frozen=True)
class MergeEvidence:
    """``kind`` of the rule and what it weighs by; the ``sites`` that count most, and how many ``others`` there are."""

    kind: Text = ""
    weights: Text = ""
    max_share: Number = None
    sites: Items[Record[SiteWeight]] = ()
    others: Whole = 0
    largest_share: Maybe[LargestShare] = None
