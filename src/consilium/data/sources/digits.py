"""Handwritten digits of 13 people, 8 x 8 pixels in 17 shades: real, small, and wherever scikit-learn is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.data.dataset import Dataset
from consilium.data.source import Source

from ._scikit_learn import bundled_rows, scikit_learn_version

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
        rows = torch.from_numpy(bundled_rows("digits.csv.gz"))
        x = rows[:, :-1].reshape(-1, 1, 8, 8).float().div_(_SHADES)
        return Dataset(
            name=self.kind(),
            records=Records.of(x, rows[:, -1].long()),
            split=None,
            keys=None,
            classes=tuple(str(digit) for digit in range(10)),
            provenance=f"scikit-learn {scikit_learn_version()}, sklearn.datasets.load_digits",
            bundled=True,
            notes=("several digits are by the same writer, and writers are not recorded: a unit is one image",),
            inputs=Inputs(preparation=(("values", f"shades / {_SHADES}"),)),
        )
