"""A line of ``rounds.jsonl`` as people read it: who took part and who did not, figures by site, and one line of all.

A reader tolerates what a report does not have (an older run, another engine): it is left out, never invented.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "TROUBLES",
    "SiteRow",
    "attendance",
    "byte_text",
    "bytes_line",
    "counted",
    "figure",
    "round_line",
    "site_rows",
    "troubled_sites",
]

TROUBLES = ("refused", "dropped", "late", "absent", "slow")
"""What may befall a site in a round, the gravest first; all but the last keep its update out of the model."""

_NAMES = 5


@dataclass(frozen=True)
class SiteRow:
    """One site in one round: its validation figures (None where it reported none), and how it took part, as text."""

    site: str
    n: int
    accuracy: float | None
    loss: float | None
    state: str


def troubled_sites(report: Mapping[str, Any], trouble: str) -> dict[str, str]:
    """The sites of ``trouble`` with the reason of each, empty where none is reported."""
    listed = report.get(trouble)
    if not isinstance(listed, list | tuple):
        return {}
    pairs = [(x.get("site"), x.get("reason")) if isinstance(x, Mapping) else (x, "") for x in listed]
    return {str(site): str(reason or "") for site, reason in pairs}


def counted(report: Mapping[str, Any], trouble: str) -> int:
    """How many sites; a report may name only the first of them."""
    return max(len(troubled_sites(report, trouble)), int(report.get(f"{trouble}_count", 0)))


def site_rows(report: Mapping[str, Any]) -> list[SiteRow]:
    """Every site whose figures were requested, in the order of the report."""
    states = _states(report)
    return [_row(entry, states) for entry in report.get("sites", ())]


def attendance(report: Mapping[str, Any]) -> str:
    """``8 took part, 1 refused (site-4: not finite), 1 late (site-3)``; the first few by name."""
    away = {site for trouble in TROUBLES[:-1] for site in troubled_sites(report, trouble)}
    parts = [f"{len(set(report.get('cohort', ())) - away)} took part"]
    parts += [_many(report, trouble) for trouble in TROUBLES if troubled_sites(report, trouble)]
    if report.get("aborted"):
        parts.append(f"the round was aborted ({report['aborted']})")
    return ", ".join(parts)


def round_line(report: Mapping[str, Any], rounds: int) -> str:
    """How good the model is after a round, over the sites."""
    parts = [f"round {report['round']} of {rounds}"]
    if report.get("mean_loss") is not None:
        parts.append(f"loss {figure(report['mean_loss'])}")
    if report.get("mean_accuracy") is not None:
        worst = report.get("worst_accuracy")
        parts.append(
            f"accuracy {report['mean_accuracy']:.3f}" + ("" if worst is None else f" (worst site {worst:.3f})")
        )
    return ", ".join(parts)


def bytes_line(report: Mapping[str, Any]) -> str:
    """What all sites together sent and received in this round."""
    if "bytes_up" not in report or "bytes_down" not in report:
        return ""
    return f"{byte_text(report['bytes_up'])} up, {byte_text(report['bytes_down'])} down"


def byte_text(count: float) -> str:
    """Bytes with an SI prefix: ``913 B``, ``1.2 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size * 0.9995:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def figure(value: float | None) -> str:
    """Three decimals, a dash for none; large losses without meaningless decimals."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"


def _states(report: Mapping[str, Any]) -> dict[str, str]:
    states = {str(site): "took part" for site in report.get("cohort", ())}
    for trouble in reversed(TROUBLES):
        reasons = troubled_sites(report, trouble)
        states |= {site: f"{trouble}: {reason}" if reason else trouble for site, reason in reasons.items()}
    return states


def _row(entry: Mapping[str, Any], states: Mapping[str, str]) -> SiteRow:
    site, accuracy = str(entry["site"]), entry.get("accuracy")
    state = states.get(site, "not in the cohort")
    if accuracy is None and entry.get("reason"):
        state += f"; no figures: {entry['reason']}"
    return SiteRow(site, int(entry.get("n", 0)), accuracy, entry.get("loss"), state)


def _many(report: Mapping[str, Any], trouble: str) -> str:
    sites, count = troubled_sites(report, trouble), counted(report, trouble)
    first = [f"{site}: {reason}" if reason else site for site, reason in list(sites.items())[:_NAMES]]
    more = [f"{count - len(first)} more"] if count > len(first) else []
    return f"{count} {trouble} ({', '.join([*first, *more])})"
