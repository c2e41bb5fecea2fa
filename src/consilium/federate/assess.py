"""How well a model does where the records are: the second thing that may leave a site.

Only counts and means over at least ``limits.minimum_count`` validation records leave, and only with the site's consent.
Validation records are never trained on, so no privacy claim covers them: the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from consilium.core.network import Network
from consilium.core.records import Site

__all__ = ["Assessment", "assess", "mean_accuracy"]


@dataclass(frozen=True)
class Assessment:
    """One site's aggregate; both figures are None where the site declined, with the reason, an infinite loss always."""

    site: str
    n: int
    accuracy: float | None
    loss: float | None
    reason: str = ""


def assess(site: Site, network: Network, params: Tensor, buffers: Tensor, batch: int = 1024) -> Assessment:
    """Accuracy and mean loss of the model on the site's validation records, if the site agrees."""
    records = site.records.validation
    n = len(records)
    if not site.limits.consent:
        return Assessment(site.id, 0, None, None, "the site gives no consent")
    if n < site.limits.minimum_count:
        return Assessment(site.id, 0, None, None, f"fewer than {site.limits.minimum_count} validation records")
    right, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, n, batch):
            y = records.y[start : start + batch].to(params.device)
            logits = network.logits(params, buffers, records.x[start : start + batch].to(params.device))
            right += int((logits.argmax(1) == y).sum())
            loss += float(F.cross_entropy(logits, y, reduction="sum"))
    return Assessment(site.id, n, right / n, loss / n if math.isfinite(loss) else None)


def mean_accuracy(assessments: Sequence[Assessment]) -> tuple[float | None, float | None, float | None]:
    """Mean accuracy over records, accuracy of the worst site, and mean loss, over the sites that answered."""
    told = [(a.n, a.accuracy, a.loss) for a in assessments if a.accuracy is not None]
    if not told:
        return None, None, None
    total = sum(n for n, *_ in told)
    mean = sum(n * accuracy for n, accuracy, _ in told) / total
    losses = [n * loss for n, _, loss in told if loss is not None]
    loss = sum(losses) / total if len(losses) == len(told) else None
    return mean, min(accuracy for _, accuracy, _ in told), loss
