"""The figures of a detector under attack: what it notices, and what it leaves of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from consilium.core.finding import Finding, Measure
from consilium.core.random import Stream
from consilium.measure.detection import detection_rates, share_of

__all__ = ["FIGURES", "with_detection"]

FIGURES = (
    "detection_auc_plain",
    "detection_tpr_at_fpr_5_plain",
    "detection_auc_adaptive",
    "detection_tpr_at_fpr_5_adaptive",
    "false_positive_rate",
    "clean_accuracy_with_rejection",
    "robust_accuracy_with_rejection_plain",
    "robust_accuracy_with_rejection",
)
_BEATEN = 0.5
_RULE = (
    "A rejected adversarial input is no success, and a rejected clean record is an error: the accuracies with "
    "rejection count by that rule, the others as if nothing were rejected."
)


def with_detection(finding: Finding, threshold: Tensor | None) -> Finding:
    """``finding`` with the figures of a detector of that ``threshold``; undefined where there is none."""
    n = len(finding.scores["correct"])
    if threshold is None:
        missing = tuple(Measure.undefined(name, "the model has no detector", n) for name in FIGURES)
        return replace(finding, measures=(*finding.measures, *missing))
    figures = _figures(finding.scores, threshold)
    return replace(finding, measures=(*finding.measures, *figures), notes=(*finding.notes, _RULE, *_beaten(figures)))


def _figures(scores: Mapping[str, Tensor], threshold: Tensor) -> tuple[Measure, ...]:
    right, clean = scores["correct_before"], scores["suspicion"]
    accepted = right & (clean <= threshold)
    figures: list[Measure] = []
    robust: list[Tensor] = []
    for name in ("plain", "adaptive"):
        fooled, suspicion = scores[f"fooled_{name}"], scores[f"suspicion_{name}"]
        stream = Stream(0, ("detection", name))
        figures += detection_rates(clean, suspicion[right & fooled], name, stream)
        robust.append(accepted & (~fooled | (suspicion > threshold)))
    return (
        *figures,
        share_of("false_positive_rate", clean > threshold),
        share_of("clean_accuracy_with_rejection", accepted),
        share_of("robust_accuracy_with_rejection_plain", robust[0]),
        share_of("robust_accuracy_with_rejection", robust[0] & robust[1]),
    )


def _beaten(figures: tuple[Measure, ...]) -> tuple[str, ...]:
    """A note where the adaptive attack leaves no more than chance."""
    area = next(one for one in figures if one.name == "detection_auc_adaptive")
    if area.value is None or area.low is None or area.low > _BEATEN:
        return ()
    plain = next(one for one in figures if one.name == "detection_auc_plain")
    before = "undefined" if plain.value is None else f"{plain.value:.3f}"
    return (
        f"The detector is beaten: an attacker who knows it leaves an AUC of {area.value:.3f} (interval from "
        f"{area.low:.3f}), where one who does not leaves {before}.",
    )
