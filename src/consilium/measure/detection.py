"""How well suspicion tells adversarial inputs from clean ones, and what is left of a model that rejects inputs.

    AUC          P(adversarial above clean), ties counting half                       chance .5
    TPR at 5 %   share of adversarial ones above the suspicion that 5 % of the clean ones exceed      chance .05

    clean accuracy with rejection     right, and not rejected: a clean input that is rejected is an error
    robust accuracy with rejection    the same, and under attack right or rejected: a rejection is no success

Source: Hanley and McNeil 1982 (AUC); Tramer 2022, Detecting Adversarial Examples Is (Nearly) As Hard As Classifying
Them, arXiv 2107.11630 (robust accuracy of a model that may reject)
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.finding import Measure
from consilium.core.random import Stream

from .intervals import clopper_pearson, wilson
from .ranking import auc_interval

__all__ = ["detection_rates", "share_of"]

_INVERSE = 20
"""1 / 5 %."""


def detection_rates(clean: Tensor, adversarial: Tensor, suffix: str, stream: Stream) -> tuple[Measure, Measure]:
    """AUC and TPR at 5 % false positives of suspicions ``clean (m,)`` and ``adversarial (k,)``.

    ``n`` of the AUC counts both, that of the TPR the adversarial ones; with none, or with fewer than 20 clean ones for
    the TPR, they are undefined.
    """
    names = f"detection_auc_{suffix}", f"detection_tpr_at_fpr_5_{suffix}"
    n, few = len(clean) + len(adversarial), len(clean) < _INVERSE
    if not len(adversarial) or not len(clean):
        reason = "no adversarial input changed an answer" if len(clean) else "there are no clean inputs"
        area, rate = (Measure.undefined(name, reason, n) for name in names)
        return area, rate
    scores = torch.cat([clean, adversarial]).double().cpu()
    kind = torch.cat([torch.zeros(len(clean)), torch.ones(len(adversarial))]).long()
    area = Measure(names[0], *auc_interval([scores], kind, stream), 0.5, n)
    if few:
        return area, Measure.undefined(names[1], f"not resolvable (n = {len(clean)})", len(adversarial))
    threshold = clean.sort(descending=True).values[len(clean) // _INVERSE]
    k = int((adversarial > threshold).sum())  # strictly above: at most 5 % of the clean ones are, ties or not
    interval = clopper_pearson(k, len(adversarial))
    return area, Measure(names[1], k / len(adversarial), *interval, 1 / _INVERSE, len(adversarial))


def share_of(name: str, mask: Tensor, chance: float | None = None) -> Measure:
    """The share of records in ``mask (n,)`` bool, with Wilson's interval."""
    k, n = int(mask.sum()), len(mask)
    return Measure(name, k / n, *wilson(k, n), chance, n)
