"""Statistical test: is an input from where the public records of its answered class are?  One p-value for each input.

    density(x) = 1/m sum_i exp(-|h(x) - h_i|^2 / (2 s^2))     over the public records i of the class that x is answered
    suspicion(x) = -log density(x)                            rejected: p <= false positives
    p(x) = (1 + number of held-out public records that are as suspect or more) / (1 + number of them)

h are the features that the last layer reads, and s is the median distance of a record to the others of its class.
Grosse's two-sample test (MMD) judges batches of inputs; an answer here may depend on its own input alone, so the
density of one input is tested.  The rank test holds its level whatever the density is.

Source: Feinman et al. 2017, Detecting Adversarial Samples from Artifacts, arXiv 1703.00410 (kernel density); Grosse et
al. 2017, On the (Statistical) Detection of Adversarial Examples, arXiv 1702.06280 (a test as detector)
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

__all__ = ["StatisticalTest"]

_FLOOR = 1e-6


@dataclass(frozen=True)
class StatisticalTest(FittedDetector):
    """Rejects an input whose last features are where few public records of its answered class are."""

    bandwidth: float = 1.0
    """Width of the kernel, as a multiple of the median distance within a class."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.bandwidth > 0, "bandwidth", self.bandwidth, "a number above 0")

    def check_model(self, module: nn.Module, example: Tensor) -> None:
        """Refuse a model without float layers."""
        check_readable(self.kind(), module, example)

    def fit(self, model: nn.Module, records: Records, stream: Stream, task: Task) -> dict[str, Tensor]:
        """Features and classes of the records, and the width of the kernel."""
        with torch.no_grad():
            h = last_read(model, records.x)[0]
        same = (records.y[:, None] == records.y) & ~torch.eye(len(h), dtype=torch.bool)
        apart = torch.cdist(h, h)[same]
        width = self.bandwidth * (apart.median() if len(apart) else torch.linalg.vector_norm(h - h.mean(0)))
        return {"places": h, "classes": records.y, "width": width.clamp_min(_FLOOR)}

    def detecting(self, model: nn.Module, fitted: Mapping[str, Tensor]) -> Detecting:
        """``model`` with densities."""
        return _Dense(model, fitted)


class _Dense(Detecting):
    def suspicion(self, x: Tensor) -> Tensor:
        h, logits = last_read(self.model, x)
        places, classes, width = (self.get_buffer(name) for name in ("places", "classes", "width"))
        squared = (h[:, None] - places).square().sum(2) / (2 * width**2)
        same = logits.argmax(1)[:, None] == classes
        density = torch.logsumexp((-squared).masked_fill(~same, -torch.inf), 1)
        return same.sum(1).log() - density
