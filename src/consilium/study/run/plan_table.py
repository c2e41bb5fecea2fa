"""A plan as the terminal shows it: a table of arms, what of the data is left out, and what is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from consilium.core.count_words import count_words
from consilium.core.errors import capitalised
from consilium.core.rounding import round_up
from consilium.core.terminal import one_line

from .plan_summary import ArmSummary

__all__ = ["plan_lines", "plan_table"]


def plan_table(summary: Mapping[str, Any]) -> Table:
    """A row an arm: its status, its claim before training, its noise."""

    table = Table(title=f"Plan of {summary['study']}", title_justify="left")
    for heading in ("arm", "status", "epsilon", "delta", "unit", "adjacency", "noise multiplier"):
        table.add_column(heading)
    for arm in summary["arms"]:
        if arm["status"] == "refused":
            rule = arm["refusal"]
            table.add_row(
                arm["arm"], f"refused: {rule['reason']} (LAWS {rule['law']}). {capitalised(rule['remedy'])}", *[""] * 5
            )
            continue
        noise = arm["noise_multiplier"]
        table.add_row(
            arm["arm"],
            "lawful",
            "none (no DP)" if arm["epsilon"] is None else _epsilons(arm),
            "" if arm["delta"] is None else round_up(arm["delta"]),
            arm["unit"] or "",
            arm["adjacency"] or "",
            "" if noise is None else _noise(*noise),
        )
    return table


def plan_lines(summary: Mapping[str, Any]) -> list[str]:
    """The lines below the table."""
    shadows = (
        f"{summary['shadows_to_do']} of {count_words(summary['shadows'], 'shadow')} to train, "
        if summary["shadows"]
        else ""
    )
    todo = (
        f"{summary['trainings_to_do']} of {count_words(summary['trainings'], 'training')} to do, {shadows}"
        f"{count_words(summary['models'], 'model')}, {count_words(summary['cells'], 'cell')}, "
        f"{count_words(summary['attacks_per_cell'], 'attack')} on each; "
        f"{_time(summary['expected_seconds'], summary['workers'])}"
    )
    omitted = [f"left out or clipped: {one_line(line)}" for line in summary["omitted"]]
    thresholds = count_words(len(summary.get("accept", ())), "threshold")
    stated = [f"{thresholds} to be stated before the run"] if "accept" in summary else []
    return [*omitted, *map(one_line, summary["notes"]), *stated, todo]


def _noise(least: float, most: float) -> str:
    low, high = f"{least:.4g}", f"{most:.4g}"
    return low if low == high else f"{low} to {high}"


def _time(seconds: float, workers: int) -> str:
    """The part of a run that is estimated, and the part that is not."""
    about = "less than a second" if 0 < seconds < 1 else f"about {seconds:.0f} s"
    return f"training alone will take {about}, {_workers(workers)}; evaluation and attacks are not estimated"


def _workers(count: int) -> str:
    return "one at a time" if count == 1 else f"{count} at once"


def _epsilons(arm: ArmSummary) -> str:
    """The epsilon of each of the arm's cells: one figure if they agree, else from least to most."""
    epsilons = [value for cell in arm["cells"] if (value := cell["epsilon"].get(arm["unit"] or "")) is not None]
    least, most = round_up(min(epsilons), 4), round_up(max(epsilons), 4)
    return most if least == most else f"{least} to {most} ({len(epsilons)} cells)"
