"""What of a round and of a cell is a curve: aggregates only, as they stand in ``rounds.jsonl`` and the evidence.

Nothing of a single record is here: no image, no score.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from consilium.core.finding import Measure
from consilium.evidence.cell import CellEvidence
from consilium.monitor.epsilon_tracker import EpsilonSpent
from consilium.monitor.round_summary import TROUBLES, counted

__all__ = ["LAST", "cell_scalars", "round_scalars"]

LAST = "round/seconds"
"""Part of every round and written last: a round that has it is complete."""

_MOST_SITES = 50
"""Up to so many sites have curves of their own; 10,000 curves would be unreadable."""


def round_scalars(report: Mapping[str, Any], spent: EpsilonSpent | None = None) -> dict[str, float]:
    """Scalars of one round by name; a figure that is not known is left out."""
    values = {
        "accuracy/mean": report.get("mean_accuracy"),
        "accuracy/worst site": report.get("worst_accuracy"),
        "loss/mean": report.get("mean_loss"),
        "bytes/up": report.get("bytes_up"),
        "bytes/down": report.get("bytes_down"),
    }
    values |= {f"sites/{trouble}": count for trouble in TROUBLES if (count := counted(report, trouble))}
    sites = report.get("sites", ())
    for site_report in sites if len(sites) <= _MOST_SITES else ():
        site = _name(str(site_report["site"]))
        values |= {
            f"accuracy by site/{site}": site_report.get("accuracy"),
            f"loss by site/{site}": site_report.get("loss"),
        }
    if spent is not None and spent.round == report["round"]:
        values[f"privacy/epsilon spent per {spent.unit}"] = spent.epsilon
    return _finite({**values, LAST: report.get("seconds", 0.0)})


def cell_scalars(evidence: CellEvidence) -> dict[str, float]:
    """The final figures of a cell, each with the ends of its interval."""
    values: dict[str, float | None] = {}
    for group, measures in (("utility", evidence.utility), ("cost", evidence.cost)):
        values |= dict(_figures(group, measures))
    for attack, finding in evidence.findings.items():
        values |= dict(_figures(f"attack/{_name(attack)}", finding.measures))
    values["privacy/epsilon"] = evidence.privacy.epsilon
    return _finite(values)


def _figures(group: str, measures: Iterable[Measure]) -> Iterator[tuple[str, float | None]]:
    for measure in measures:
        name = f"{group}/{_name(measure.name)}"
        yield name, measure.value
        if measure.value is not None:
            yield f"{name} low", measure.low
            yield f"{name} high", measure.high


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(v) for name, v in values.items() if v is not None and math.isfinite(v)}


def _name(raw: str) -> str:
    """Only what every sink allows in a name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", raw)[:80]
