"""How much each site counted in a training's merges, as a table: records as enrolled, weight, and share of the sum."""

from __future__ import annotations

from dataclasses import dataclass

from consilium.evidence.merge import LargestShare, MergeEvidence, SiteWeight
from consilium.report.load.records import CellRecord

__all__ = ["MergeView", "SiteShare", "merge_view"]

_READS_WEIGHTS = "weighted-mean"


@dataclass(frozen=True)
class SiteShare:
    """One site written out."""

    site: str
    records: str
    weight: str
    share: str


@dataclass(frozen=True)
class MergeView:
    """The sites that count most, how many others there are, and in a sentence how they are weighed."""

    sites: tuple[SiteShare, ...]
    others: int
    said: str


def merge_view(cell: CellRecord) -> MergeView | None:
    """The table of one cell; None where its evidence is older, or nothing was trained."""
    merge = cell.merge
    if merge is None or not merge.sites:
        return None
    lines = (SiteShare(one.site, f"{one.records:,.0f}", f"{one.weight or 0:,g}", _share(one)) for one in merge.sites)
    return MergeView(tuple(lines), merge.others, _sentence(merge))


def _sentence(merge: MergeEvidence) -> str:
    by = "every site alike" if merge.weights == "uniform" else "by its number of training records"
    most = merge.max_share or 0.0
    cap = (
        f"No site may have more than {most:.1%} of a merge." if 0 < most < 1 else "No share is capped (max-share = 1)."
    )
    plain = "" if merge.kind == _READS_WEIGHTS else f" {merge.kind} does not read weights: each update counts once."
    largest = merge.largest_share
    share_text = f" The largest share in a round was {_share(largest)}, of {largest.site}." if largest else ""
    return f"The server weighs {by}. {cap}{plain}{share_text}"


def _share(one: SiteWeight | LargestShare) -> str:
    return f"{one.share or 0:.1%}"
