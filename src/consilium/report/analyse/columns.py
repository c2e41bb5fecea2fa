"""The columns of the matrix: what is shown of a cell, under which heading, and what it means.

A column reads one :class:`Measure` from a cell, so every table, plot and card of the report shows the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from consilium.core.finding import Measure
from consilium.report.load.numbers import Style
from consilium.report.load.records import CellRecord, StudyRecord

__all__ = ["TableColumn", "axis_columns", "columns", "is_bound", "measure_of", "score_column"]


@dataclass(frozen=True)
class TableColumn:
    """One column: ``better`` is the direction that is good, ``style`` is how its numbers are written.

    ``needs_all``: where one seed has no figure there is no mean either: the seeds that have one are the good ones.
    ``chance`` is of leakage: a figure at or below it is no evidence of leakage, so figures are compared above it
    (:meth:`ranked`).  ``proven`` is what no attack has to show.
    """

    key: str
    label: str
    group: str
    meaning: str
    better: Literal["high", "low"]
    style: Style = "share"
    needs_all: bool = False
    chance: float | None = None
    proven: bool = False

    def ranked(self, value: float) -> float:
        """What ``value`` counts in a comparison: below chance as much as chance."""
        return value if self.chance is None else max(value, self.chance)

    @property
    def robustness(self) -> bool:
        """True for figures of evasion, in which a collapsed model is not ranked (LAWS 19).

        They bound the robust accuracy from above: what withstood these attacks may fall to a stronger one (LAWS 26).
        """
        return self.group == "Evasion"


_FIRST = (
    TableColumn("accuracy", "accuracy", "Utility", "Share of test records answered rightly.", "high"),
    TableColumn(
        "balanced_accuracy",
        "balanced accuracy",
        "Utility",
        "Mean over classes of the share answered rightly: answering one class always earns 1 / classes.",
        "high",
    ),
    TableColumn(
        "auroc", "AUROC", "Utility", "Chance that a right class is ranked above a wrong one; 0.5 is a coin.", "high"
    ),
    TableColumn("macro_auroc", "macro AUROC", "Utility", "Mean over findings of AUROC; 0.5 is a coin.", "high"),
    TableColumn(
        "macro_average_precision",
        "macro AP",
        "Utility",
        "Mean over findings of average precision; chance: prevalence.",
        "high",
    ),
    TableColumn(
        "r2", "R2", "Utility", "Share of the spread that is explained; 0 is always answering the mean.", "high", "plain"
    ),
    TableColumn(
        "mean_absolute_error",
        "MAE",
        "Utility",
        "Mean distance from the truth, in units of the quantity.",
        "low",
        "plain",
    ),
    TableColumn("dice", "Dice", "Utility", "Overlap of the masks, mean over patients; 1 where both are empty.", "high"),
    TableColumn(
        "hd95", "HD95", "Utility", "Distance of the masks' surfaces in pixels, mean over patients.", "low", "plain"
    ),
    TableColumn("c_index", "c-index", "Utility", "Share of pairs whose earlier event had the higher risk.", "high"),
    TableColumn(
        "brier_score",
        "Brier",
        "Utility",
        "Mean squared distance of the answered probabilities from the truth: 0 is best; chance is always answering how "
        "common each class is.",
        "low",
    ),
    TableColumn(
        "expected_calibration_error",
        "calibration error",
        "Utility",
        "Mean distance of confidence from accuracy over 15 bins (ECE). Few records alone make some: chance is what a "
        "perfectly calibrated model has with as many. Its interval is of the error without that.",
        "low",
    ),
    TableColumn(
        "personal_accuracy",
        "own models",
        "Utility",
        "Share of the sites' validation records answered rightly by each site's own model (personalised algorithms).",
        "high",
    ),
    TableColumn(
        "personal_worst_accuracy",
        "own, worst site",
        "Utility",
        "The same at the site where it is lowest; chosen for being lowest, so its interval is only that site's own.",
        "high",
    ),
    TableColumn(
        "epsilon",
        "ε",
        "Privacy",
        "Epsilon of the differential-privacy claim of one released model: the maximum over sites and seeds. Read it "
        "with its δ, unit and adjacency on the model's page. “none” means that no finite epsilon is claimed.",
        "low",
        "epsilon",
    ),
    TableColumn(
        "audited_epsilon",
        "audited ε",
        "Privacy",
        "The largest lower bound of epsilon that the study's audits found, without assumption: what an adversary did, "
        "so the true epsilon is at least this. Above the claim, the claim is broken; below it, nothing is proved.",
        "low",
        "audited",
    ),
)
_SCORES = ("macro_auroc", "dice", "r2", "c_index")
"""By which models of a task other than one class a record are first read."""
_WORST = TableColumn(
    "worst_case",
    "worst case",
    "Evasion",
    "Share of test records answered rightly under every one of the study's evasion attacks, record by record. The "
    "robust accuracy is at most this: a stronger attack may find more.",
    "high",
)
_CERTIFIED = (
    TableColumn(
        "certified_accuracy_at_sigma",
        "certified at σ",
        "Evasion",
        "Share of test records answered rightly, of which it is proven that no perturbation of an L2 size up to the σ "
        "of the smoothing changes the answer, whatever the attack.",
        "high",
        proven=True,
    ),
    TableColumn(
        "average_certified_radius",
        "certified radius",
        "Evasion",
        "Mean L2 radius within which no perturbation changes a right answer, as proven; wrong answers count as 0.",
        "high",
        "plain",
        proven=True,
    ),
)
_KNOWING = {"plain": "does not know of it", "adaptive": "knows it"}
_LAST = (
    TableColumn(
        "mia_advantage",
        "advantage",
        "Membership",
        "True minus false positive rate of the strongest membership attack: 0 means that it separates members from "
        "non-members no better than a coin. One threshold, set on other records; below 0 counts as 0.",
        "low",
        chance=0.0,
    ),
    TableColumn(
        "mia_auc",
        "AUC",
        "Membership",
        "AUC of the membership attack that tells most, over all thresholds; 0.5 is a coin, and below it counts as 0.5.",
        "low",
        chance=0.5,
    ),
    TableColumn("bytes", "size", "Cost", "Bytes of the stored model file.", "low", "bytes"),
    TableColumn(
        "latency_ratio",
        "latency",
        "Cost",
        "Time of one answer relative to the same model in fp32, both measured in turn in one process.",
        "low",
        "ratio",
    ),
    TableColumn(
        "bytes_up_per_round_site",
        "sent",
        "Cost",
        "Bytes of the message that one site sends to the server in one round, names and shapes included.",
        "low",
        "bytes",
    ),
    TableColumn(
        "rounds_to_accuracy",
        "rounds to target",
        "Cost",
        "Rounds until the sites' held-out records were first answered with the study's target accuracy.",
        "low",
        "count",
        needs_all=True,
    ),
    TableColumn(
        "bytes_to_accuracy",
        "bytes to target",
        "Cost",
        "All bytes sent, up and down by all sites, until then.",
        "low",
        "bytes",
        needs_all=True,
    ),
    TableColumn(
        "seconds",
        "time",
        "Cost",
        "Seconds of training and evaluation; a training that several arms share counts in each of them.",
        "low",
        "seconds",
    ),
)


def axis_columns(axes: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """The name of each axis's column: its own, or ``axis:NAME`` where another column has that."""
    return {axis: f"axis:{axis}" if axis in others else axis for axis in axes}


def columns(study: StudyRecord) -> tuple[TableColumn, ...]:
    """The columns for which this study has at least one measure; epsilon is always shown."""
    evasion = tuple(_attack(name) for name in study.attacks("evasion"))
    worst = (_WORST,) if len(evasion) > 1 else ()
    noticed = tuple(_detector(name, who) for name in study.attacks("evasion") for who in _KNOWING)
    backdoors = tuple(_backdoor(name) for name in study.attacks("poisoning"))
    every = (*_FIRST, *evasion, *worst, *noticed, *_CERTIFIED, *backdoors, *_LAST)
    done = [cell for cell in study.evidence if cell.judged]
    return tuple(c for c in every if c.key == "epsilon" or any(measure_of(cell, c.key) for cell in done))


def score_column(study: StudyRecord) -> TableColumn | None:
    """The figure by which models are first read: that of the task, else accuracy."""
    known = {column.key: column for column in columns(study)}
    return next((known[key] for key in (*_SCORES, "accuracy") if key in known), None)


def measure_of(cell: CellRecord, key: str) -> Measure | None:
    """The figure in column ``key`` for one cell; None where the cell has none."""
    if ":" in key:
        name, attack = key.split(":", 1)
        return next((f.measure(name.removeprefix("mia_")) for f in cell.attacks if f.name == attack), None)
    if key.startswith("mia_"):
        return _largest(cell, key.removeprefix("mia_"))
    special = {"epsilon": _epsilon, "audited_epsilon": _audited, "seconds": _seconds, "worst_case": _worst}.get(key)
    if special is not None:
        return special(cell)
    return next((m for m in (*cell.utility, *cell.cost) if m.name == key), None)


def is_bound(cell: CellRecord, key: str) -> bool:
    """True where the figure of an evasion column is a loose bound: some attack did not follow the defence (LAWS 20)."""
    attack = key.partition(":")[2]
    if attack:
        return any(f.upper_bound for f in cell.attacks if f.name == attack)
    measure = measure_of(cell, key) if key == "worst_case" else None
    return measure is not None and (any(f.upper_bound for f in cell.aimed("evasion")) or "upper" in measure.reason)


def _attack(name: str) -> TableColumn:
    meaning = (
        f"Share of all test records answered rightly under the attack “{name}”. The robust accuracy is at most this: a "
        "stronger attack may find more."
    )
    return TableColumn(f"robust_accuracy:{name}", name, "Evasion", meaning, "high")


def _detector(name: str, who: str) -> TableColumn:
    meaning = (
        f"How often the model's detector suspects an input made by “{name}”, by an attacker who {_KNOWING[who]}, more "
        "than a clean one; 0.5 is a coin."
    )
    return TableColumn(f"detection_auc_{who}:{name}", f"detector's AUC, {who}", "Detection", meaning, "high")


def _backdoor(name: str) -> TableColumn:
    meaning = (
        f"Share of test records of other classes that the model answers as the target of “{name}” where its trigger is "
        "on. The clean twin's rate is what counts as chance; another trigger may do more."
    )
    return TableColumn(f"backdoor_success:{name}", name, "Backdoor", meaning, "low")


def _epsilon(cell: CellRecord) -> Measure:
    if cell.privacy.epsilon is None:
        return Measure.undefined("epsilon", "no differential privacy: no finite epsilon is claimed")
    return Measure("epsilon", cell.privacy.epsilon)


def _audited(cell: CellRecord) -> Measure | None:
    bounds = [m for m in (f.measure("audited_epsilon") for f in cell.attacks) if m is not None and m.value is not None]
    return max(bounds, key=lambda m: m.value or 0.0, default=None)


def _largest(cell: CellRecord, name: str) -> Measure | None:
    """The largest figure of the cell's membership attacks, as an adversary takes the best of them."""
    seeing = (f for f in cell.aimed("membership") if f.sees_model)
    measures = [measure for measure in (f.measure(name) for f in seeing) if measure is not None]
    figures = (measure for measure in measures if measure.value is not None)
    return max(figures, key=lambda m: m.value or 0.0, default=next(iter(measures), None))


def _seconds(cell: CellRecord) -> Measure | None:
    return Measure("seconds", sum(cell.seconds.values()), unit="s") if cell.seconds else None


def _worst(cell: CellRecord) -> Measure | None:
    return cell.worst_case
