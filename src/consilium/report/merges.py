"""How much each site counted in a training's merges, as a table: records as enrolled, weight, and share of the sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .evidence import CellRecord

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
    held = _map(cell.raw.get("merge"))
    sites = [_map(one) for one in held.get("sites", ()) if isinstance(one, Mapping)]
    if not sites:
        return None
    lines = tuple(
        SiteShare(
            str(one.get("site")), f"{_number(one.get('records')):,.0f}", f"{_number(one.get('weight')):,g}", _share(one)
        )
        for one in sites
    )
    return MergeView(lines, int(_number(held.get("others"))), _sentence(held))


def _sentence(held: Mapping[str, Any]) -> str:
    by = "every site alike" if held.get("weights") == "uniform" else "by its number of training records"
    most = _number(held.get("max_share"))
    cap = (
        f"No site may have more than {most:.1%} of a merge." if 0 < most < 1 else "No share is capped (max-share = 1)."
    )
    kind, largest = held.get("kind"), _map(held.get("largest_share"))
    plain = "" if kind == _READS_WEIGHTS else f" {kind} does not read weights: each update counts once."
    met = f" The largest share in a round was {_share(largest)}, of {largest.get('site')}." if largest else ""
    return f"The server weighs {by}. {cap}{plain}{met}"


def _share(one: Mapping[str, Any]) -> str:
    return f"{_number(one.get('share')):.1%}"


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
