"""Local intrinsic dimensionality: an input is suspect where its neighbourhood grows as that of adversarial ones does.

    LID_l(x) = -( 1/k sum_i log(r_i / r_k) )^-1      r_1 <= ... <= r_k: distances to the k nearest public records in
                                                     what layer l reads; the maximum-likelihood estimate
    suspicion(x) = w' LID(x) + b                     logistic regression over the layers

Half of the public records is split again: one part are the neighbours, the regression tells the other from its
adversarial twins (PGD on the model itself).

Source: Ma et al. 2018, Characterizing Adversarial Subspaces Using Local Intrinsic Dimensionality, arXiv 1801.02613;
Amsaleg et al. 2015, Estimating Local Intrinsic Dimensionality, KDD (the estimate)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.core.detection import Detecting
from consilium.core.entry import check
from consilium.core.errors import Unlawful
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._fitted import FittedDetector, halves
from ._layers import check_readable, read_by_layers
from ._nearest import local_dimension
from ._regression import logistic_fit
from ._twins import adversarial_twins

__all__ = ["LocalIntrinsicDimensionality"]


@dataclass(frozen=True)
class LocalIntrinsicDimensionality(FittedDetector):
    """Rejects an input by how the distances to its nearest public records grow, layer by layer."""

    neighbours: int = 10
    """Nearest public records that the estimate is made of, at least 2."""
    radius: float = 0.1
    """How far the twins that it learns from are moved, L-infinity, in units of the range [0, 1]."""
    steps: int = 20
    """Gradient steps that make a twin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.neighbours >= 2, "neighbours", self.neighbours, "at least 2")
        check(0 < self.radius <= 1, "radius", self.radius, "a number above 0, at most 1")
        check(self.steps >= 1, "steps", self.steps, "at least 1")

    def check_public(self, public: Records, labels: Sequence[str]) -> None:
        """Refuse too few records, for the neighbours too: they are a quarter of them.

        Raises Unlawful: with the number there is and the number needed (law 10).
        """
        super().check_public(public, labels)
        if len(public) < 4 * self.neighbours:
            raise Unlawful(
                f"{self.kind()} looks for {self.neighbours} neighbours among a quarter of the public records and there "
                f"are {len(public)}; it needs {4 * self.neighbours}",
                law=10,
                remedy="set data.public higher, or use fewer neighbours",
            )

    def check_model(self, module: nn.Module, example: Tensor) -> None:
        """Refuse a model without float layers."""
        check_readable(self.kind(), module, example)

    def fit(self, model: nn.Module, records: Records, stream: Stream, task: Task) -> dict[str, Tensor]:
        """What each layer reads of the neighbours, and the weights of the layers."""
        neighbours, taught = halves(records)
        with torch.no_grad():
            layers = read_by_layers(model, neighbours.x)[0]
        places = {f"layer_{i}": layer for i, layer in enumerate(layers)}
        twins = adversarial_twins(model, taught, self.radius, self.steps, stream, task)
        unweighted = _Neighbouring(model, places, self.neighbours)
        with torch.no_grad():
            columns = torch.cat([unweighted.dimensions(x) for x in (taught.x, twins)])
        weights, bias = logistic_fit(columns, torch.arange(len(columns)) >= len(taught))
        return {**places, "weights": weights.float(), "bias": bias.float()}

    def detecting(self, model: nn.Module, fitted: Mapping[str, Tensor]) -> Detecting:
        """``model`` with distances to the neighbours."""
        return _Neighbouring(model, fitted, self.neighbours)


class _Neighbouring(Detecting):
    def __init__(self, model: nn.Module, fitted: Mapping[str, Tensor], neighbours: int) -> None:
        super().__init__(model, fitted)
        self.neighbours = neighbours

    def dimensions(self, x: Tensor) -> Tensor:
        """LIDs ``(n, layers)``."""
        layers, _ = read_by_layers(self.model, x)
        places = [self.get_buffer(f"layer_{i}") for i in range(len(layers))]
        return torch.stack(
            [local_dimension(one, among, self.neighbours) for one, among in zip(layers, places, strict=True)], 1
        )

    def suspicion(self, x: Tensor) -> Tensor:
        return self.dimensions(x) @ self.get_buffer("weights") + self.get_buffer("bias")
