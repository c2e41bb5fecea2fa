"""Brier score: the mean squared distance between the probabilities that a model answers and what was true.

    two classes      mean of (p_1 - y)^2                      0 is best, 1 is worst
    more             mean of sum over c of (p_c - [y = c])^2  0 is best, 2 is worst

It is a proper score: no other answer than the true probability makes it smaller on average, so it falls with accuracy
and with calibration alike.  ``chance`` is always answering how common each class is among these records, which is
pi_1 (1 - pi_1), and sum of pi_c (1 - pi_c).  The interval is that of a bounded mean by unit (:mod:`.paired`), which
has no zero width where every answer was right.

Source: Brier 1950, Verification of Forecasts Expressed in Terms of Probability; halved for two classes as is common in
medicine and as scikit-learn does (``scale_by_half="auto"``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.finding import Measure
from consilium.measure.paired import bounded_mean

from .probabilities import check_answers, no_answers, probabilities

__all__ = ["brier_score"]

_NAME = "brier_score"


def brier_score(logits: Tensor, y: Tensor, units: Tensor) -> Measure:
    """Of ``logits (n, classes)`` for ``y (n,)``; the records of a unit in ``units (n,)`` count as one draw.

    A NaN leaves it undefined.  Raises Refused where shapes or labels do not fit.
    """
    check_answers(logits, y)
    n, classes = logits.shape
    reason = no_answers(logits)
    if reason or not (shares := probabilities(logits.detach().cpu())).isfinite().all():
        return Measure.undefined(_NAME, reason or "the model answers +inf", n)
    most = 1.0 if classes == 2 else 2.0
    truth = torch.nn.functional.one_hot(y.cpu(), classes).double()
    losses = (shares - truth).square().sum(1) * (most / 2)
    common = truth.mean(0)
    chance = float((common * (1 - common)).sum()) * (most / 2)
    limits = bounded_mean(losses.numpy(), units.cpu().numpy(), 0.0, most)
    return Measure(_NAME, *limits, chance, n)
