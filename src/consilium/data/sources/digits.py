"""Handwritten digits of 13 people, 8 x 8 pixels in 17 shades: real, small, and wherever scikit-learn is."""

from __future__ import annotations

from dataclasses import dataclass

import sklearn
import torch
from sklearn.datasets import load_digits

from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.data.dataset import Dataset
from consilium.data.source import Source

__all__ = ["Digits"]

_SHADES = 16
"""The greatest value of a pixel: each counts the set bits of a 4 x 4 block."""


@dataclass(frozen=True)
class Digits(Source):
    """Handwritten digits, bundled with scikit-learn (1797 grey images of 8 x 8, 10 classes).

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI (CC BY 4.0)
    """

    def load(self) -> Dataset:
        """Inputs ``(1797, 1, 8, 8)``; no split of its own, and the writers of the digits are unknown."""
        bunch = load_digits()
        x = torch.from_numpy(bunch.images).float().div_(_SHADES)[:, None]
        return Dataset(
            name=self.kind(),
            records=Records.of(x, torch.from_numpy(bunch.target).long()),
            split=None,
            keys=None,
            classes=tuple(str(digit) for digit in range(10)),
            provenance=f"scikit-learn {sklearn.__version__}, sklearn.datasets.load_digits",
            bundled=True,
            notes=("several digits are by the same writer, and writers are not recorded: a unit is one image",),
            inputs=Inputs(preparation=(("values", f"shades / {_SHADES}"),)),
        )
