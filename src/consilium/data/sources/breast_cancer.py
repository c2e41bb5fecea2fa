"""Thirty measurements of cell nuclei in a needle aspirate, malignant or benign.

Features are scaled to [0, 1] by the ranges that UCI publishes with the set, written out below: public constants, so
scaling carries no privacy charge (LAWS 9).
"""

from __future__ import annotations

from dataclasses import dataclass

import sklearn
import torch
from sklearn.datasets import load_breast_cancer

from consilium.core.inputs import Column, Inputs
from consilium.core.records import Records
from consilium.data.dataset import Dataset
from consilium.data.files.meaning import TABULAR
from consilium.data.source import Source

__all__ = ["BreastCancer"]

_LOW = (
    *(6.981, 9.71, 43.79, 143.5, 0.053, 0.019, 0.0, 0.0, 0.106, 0.05),
    *(0.112, 0.36, 0.757, 6.802, 0.002, 0.002, 0.0, 0.0, 0.008, 0.001),
    *(7.93, 12.02, 50.41, 185.2, 0.071, 0.027, 0.0, 0.0, 0.156, 0.055),
)
_HIGH = (
    *(28.11, 39.28, 188.5, 2501.0, 0.163, 0.345, 0.427, 0.201, 0.304, 0.097),
    *(2.873, 4.885, 21.98, 542.2, 0.031, 0.135, 0.396, 0.053, 0.079, 0.03),
    *(36.04, 49.54, 251.2, 4254.0, 0.223, 1.058, 1.252, 0.291, 0.664, 0.208),
)
"""Published range of each feature: mean, standard error and worst of radius, texture, perimeter, area, smoothness,
compactness, concavity, concave points, symmetry, fractal dimension.  Rounded: values outside are clipped."""


@dataclass(frozen=True)
class BreastCancer(Source):
    """Cell nuclei of breast masses, malignant / benign, bundled with scikit-learn (569 records of 30 features).

    Source: Wolberg, Mangasarian, Street and Street 1995, Breast Cancer Wisconsin (Diagnostic), UCI (CC BY 4.0)
    """

    def load(self) -> Dataset:
        """Inputs ``(569, 30)``; no split of its own; each record is a patient."""
        bunch = load_breast_cancer()
        low, high = torch.tensor(_LOW), torch.tensor(_HIGH)
        x = (torch.from_numpy(bunch.data).float() - low) / (high - low)
        return Dataset(
            name=self.kind(),
            records=Records.of(x.clamp(0, 1), torch.from_numpy(bunch.target).long()),
            split=None,
            keys=None,
            classes=("malignant", "benign"),
            provenance=f"scikit-learn {sklearn.__version__}, sklearn.datasets.load_breast_cancer",
            bundled=True,
            inputs=Inputs(tuple(map(Column, map(str, bunch.feature_names), zip(_LOW, _HIGH, strict=True))), TABULAR),
        )
