"""What the page's script draws: plain JSON values, no drawing here.

The Pareto plot has one point per arm and infection; a training's curves are stored once however many cells share it;
a membership attack's scores become two histograms by rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from consilium.evidence.round import RoundEvidence
from consilium.report.analyse.columns import TableColumn, columns
from consilium.report.analyse.many_sites import MANY
from consilium.report.analyse.summary import Row, flagged_at
from consilium.report.load.numbers import interval, number
from consilium.report.load.records import FindingRecord, StudyRecord
from consilium.report.load.scores import read_scores

__all__ = ["curves", "histogram", "pareto"]


def pareto(study: StudyRecord, rows: Sequence[Row]) -> Mapping[str, object]:
    """Measures to choose from, and one point per row with at least two figures."""
    shown = columns(study)
    points = [_point(row, shown) for row in rows if any(figure.value is not None for figure in row.figures.values())]
    keys = [column.key for column in shown]
    strongest = next(
        (k for k in ("worst_case", *keys) if k in keys and (k == "worst_case" or ":" in k)), "mia_advantage"
    )
    return {
        "options": [
            {"key": c.key, "label": _label(c), "better": c.better, "style": c.style, "chance": c.chance} for c in shown
        ],
        "points": points,
        "infections": list(study.infections),
        "x": strongest if strongest in keys else keys[0],
        "y": "accuracy" if "accuracy" in keys else keys[-1],
    }


def curves(rounds: Sequence[RoundEvidence]) -> Mapping[str, object]:
    """One training: accuracy of mean, worst and each site, mean loss, and a backdoor's success, over rounds.

    Many sites are not drawn.
    """
    sites = dict.fromkeys(point.site for record in rounds for point in record.sites)
    sites = sites if len(sites) <= MANY else {}
    return {
        "round": [record.round for record in rounds],
        "mean": [record.mean_accuracy for record in rounds],
        "worst": [record.worst_accuracy for record in rounds],
        "loss": [record.mean_loss for record in rounds],
        "sites": {site: [_at(record, site) for record in rounds] for site in sites},
        "backdoor": [record.backdoor_success for record in rounds] if _planted(rounds) else [],
    }


def _planted(rounds: Sequence[RoundEvidence]) -> bool:
    return any(record.backdoor_success is not None for record in rounds)


def histogram(finding: FindingRecord, bins: int = 10) -> Mapping[str, object] | None:
    """Shares of members and of non-members in each tenth of all scores, lowest first; both are 1 / bins by chance.

    By rank, because scores of a fitted model crowd at one end.  None where scores or membership are not in the file.
    """
    scores_by_name = read_scores(finding.file)
    member = scores_by_name.get("member")
    score = next((scores_by_name[key] for key in ("score", "scores", "loss") if key in scores_by_name), None)
    if member is None or score is None or member.shape != score.shape:
        return None
    known = np.isfinite(score)
    inside = member[known] > 0.5
    if not inside.any() or inside.all():
        return None
    tenth = np.floor((rankdata(score[known]) - 0.5) / known.sum() * bins).astype(int)
    shares = [np.bincount(tenth[of], minlength=bins) / of.sum() for of in (inside, ~inside)]
    return {"x": list(range(1, bins + 1)), "member": _short(shares[0]), "other": _short(shares[1])}


def _point(row: Row, shown: Sequence[TableColumn]) -> Mapping[str, object]:
    return {
        "code": row.code,
        "arm": row.arm.name,
        "infected_by": row.infected_by,
        "collapsed": row.collapsed > 0,
        "cell": next((cell.digest for cell in row.cells if cell.judged), ""),
        "figures": {column.key: _figure(row, column) for column in shown},
    }


def _figure(row: Row, column: TableColumn) -> Mapping[str, object]:
    """Value and limits to draw, and both as the matrix writes them: a browser would round an epsilon down.

    ``upper`` keeps it off the front: a loose bound, or one that a red flag speaks against.
    """
    figure = row.figures[column.key]
    return {
        "v": figure.value,
        "l": figure.low,
        "h": figure.high,
        "text": number(figure.value, column.style),
        "between": interval(figure.low, figure.high, column.style),
        "upper": figure.upper or bool(flagged_at(row, column)),
        "at_most": figure.at_most,
    }


def _label(column: TableColumn) -> str:
    return f"{column.group.lower()}: {column.label}"


def _at(record: RoundEvidence, site: str) -> float | None:
    return next((point.accuracy for point in record.sites if point.site == site), None)


def _short(values: np.ndarray[Any, Any]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
