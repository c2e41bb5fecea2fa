"""Mahalanobis: an input is suspect where what the last layer reads is far from every class.

    suspicion(x) = min over classes c of  (h(x) - mu_c)' S^-1 (h(x) - mu_c)
    S = (1 - a) W + a tr(W) / d I         W: covariance within the classes, the same for all; a: shrinkage

h(x) are the features that the last layer reads; means and covariance are those of half of the public records.  The
paper also weighs several layers by a regression on adversarial examples; here nothing is fitted on any attack.

Source: Lee et al. 2018, A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks,
arXiv 1807.03888
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.core.detection import Detecting
from consilium.core.entry import check
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._fitted import FittedDetector
from ._layers import check_readable, last_read

__all__ = ["Mahalanobis"]

_FLOOR = 1e-12
"""Least variance, of the mean one or absolute: features that never move would divide by nothing."""


@dataclass(frozen=True)
class Mahalanobis(FittedDetector):
    """Rejects an input whose last features are far from the Gaussian of every class."""

    shrinkage: float = 0.1
    """Weight of equal variances in every direction: what few records leave unknown; above 0, at most 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.shrinkage <= 1, "shrinkage", self.shrinkage, "a share above 0, at most 1")

    def check_model(self, module: nn.Module, example: Tensor) -> None:
        """Refuse a model without float layers."""
        check_readable(self.kind(), module, example)

    def fit(self, model: nn.Module, records: Records, stream: Stream, task: Task) -> dict[str, Tensor]:
        """Means ``(classes, d)``; axes ``(d, r)`` of the covariance, the variances along them and beside them."""
        with torch.no_grad():
            h = last_read(model, records.x)[0].double()
        means = torch.stack([h[records.y == c].mean(0) for c in range(int(records.y.max()) + 1)])
        centred = (h - means[records.y]) / len(h) ** 0.5
        _, deviations, axes = torch.linalg.svd(centred, full_matrices=False)
        ridge = (self.shrinkage * centred.square().sum() / h.shape[1]).clamp_min(_FLOOR)
        along = (1 - self.shrinkage) * deviations.square() + ridge
        parts = {"means": means, "axes": axes.T.contiguous(), "along": along, "beside": ridge}
        return {name: part.float() for name, part in parts.items()}

    def detecting(self, model: nn.Module, fitted: Mapping[str, Tensor]) -> Detecting:
        """``model`` with distances from the means."""
        return _Distant(model, fitted)


class _Distant(Detecting):
    def suspicion(self, x: Tensor) -> Tensor:
        means, axes, along, beside = (self.get_buffer(name) for name in ("means", "axes", "along", "beside"))
        apart = last_read(self.model, x)[0][:, None] - means
        inside = apart @ axes
        rest = apart - inside @ axes.T
        distances = (inside.square() / along).sum(2) + rest.square().sum(2) / beside
        return distances.amin(1)
