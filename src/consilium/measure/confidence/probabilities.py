"""Probabilities from what a model answered, for every figure that reads them.

A released model answers logits, or logarithms of probabilities where an answer defence acts; the softmax of both is
what it says.  In float64: in float32 confident answers would all tie at 1.  A row of zeros (all confidences rounded
away) is all -inf, and counts as uniform.
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.errors import Refused

__all__ = ["check_answers", "no_answers", "probabilities"]


def probabilities(logits: Tensor) -> Tensor:
    """float64 ``(n, classes)``, rows that sum to 1, from ``logits (n, classes)``."""
    return torch.softmax(logits.double().clamp_min(-1e38), dim=1)


def no_answers(logits: Tensor) -> str:
    """Why ``logits`` have no figures: there are none, or NaN among them; empty where they have."""
    n, failures = len(logits), int(logits.isnan().flatten(1).any(1).sum())
    if failures:
        return f"the model answers NaN for {failures} of {n} records"
    return "" if n else "there are no records"


def check_answers(logits: Tensor, y: Tensor) -> None:
    """Refuse logits ``(n, classes)`` and labels ``y (n,)`` that do not fit.

    Raises Refused: shapes differ, fewer than two classes, or a label outside the classes.
    """
    if logits.dim() != 2 or y.shape != logits.shape[:1] or logits.shape[1] < 2:
        raise Refused(
            f"logits {tuple(logits.shape)} and labels {tuple(y.shape)} do not fit",
            remedy="give logits (n, classes) with at least two classes and labels (n,)",
        )
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < logits.shape[1]:
        raise Refused(f"labels reach from {int(y.min())} to {int(y.max())}, the model has {logits.shape[1]} classes")
