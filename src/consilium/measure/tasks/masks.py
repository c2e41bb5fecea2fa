"""How well masks fit: overlap and distance, with the empty mask's rule said out loud.

    Dice = 2 |A n B| / (|A| + |B|)                 1 where neither shows the label, 0 where one of them alone does
    HD95 = max of the 95th percentiles of the distances of each surface to the other, in pixels
                                                   0 where neither shows it, the picture's diagonal where one alone does

Figures are per patient: a patient's value is the mean over the patient's records, and no value is dropped.  How many
records show nothing, in truth and in answer, is counted beside them.  ``chance`` of Dice is, for each label, the better
of an answer that shows nothing and one that shows everything.

Source: Dice 1945; Huttenlocher et al. 1993; Reinke et al. 2024, Understanding metric-related pitfalls (empty masks)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.measure.confidence.by_unit import resampled_sums, unit_sums
from consilium.measure.paired import bounded_mean

__all__ = ["dice", "hd95", "mask_figures"]

_Floats = NDArray[np.float64]
_Mask = NDArray[np.bool_]


def dice(shown: Tensor, truth: Tensor) -> Tensor:
    """Dice of masks ``(n, labels, *spatial)`` bool, float64 ``(n, labels)``."""
    both = (shown & truth).flatten(2).sum(2).double()
    either = (shown.flatten(2).sum(2) + truth.flatten(2).sum(2)).double()
    return torch.where(either == 0, 1.0, 2 * both / either.clamp_min(1.0))


def hd95(shown: _Mask, truth: _Mask) -> float:
    """HD95 of two masks of one shape, in pixels."""
    if not shown.any() and not truth.any():
        return 0.0
    if not shown.any() or not truth.any():
        return math.hypot(*shown.shape)
    surfaces = _surface(shown), _surface(truth)
    apart = [ndimage.distance_transform_edt(~surface) for surface in surfaces]
    return max(float(np.percentile(apart[1 - k][surfaces[k]], 95)) for k in (0, 1))


def mask_figures(
    shown: Tensor, truth: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
) -> tuple[Measure, ...]:
    """Of masks ``(n, labels, *spatial)`` bool: dice, hd95, empty_in_truth, empty_in_answer, each label's.

    Raises Refused: shapes that do not fit, or no records.
    """
    if shown.shape != truth.shape or shown.shape[1] != len(labels) or not len(shown):
        raise Refused(f"masks {tuple(shown.shape)} and {tuple(truth.shape)} of {len(labels)} labels do not fit")
    overlap: _Floats = dice(shown, truth).numpy()
    constants = [dice(torch.full_like(truth, bool(c)), truth).numpy() for c in (0, 1)]
    distance = np.array(
        [[hd95(shown[i, k].numpy(), truth[i, k].numpy()) for k in range(len(labels))] for i in range(len(shown))]
    )
    ids: NDArray[np.int64] = units.numpy()
    figures = [
        replace(_dice("dice", overlap.mean(1), [c.mean(1) for c in constants], ids), chance=_chance(constants, ids))
    ]
    figures.append(_hd95("hd95", distance.mean(1), ids, stream))
    figures += [_empty("empty_in_truth", truth), _empty("empty_in_answer", shown)]
    if len(labels) > 1:
        for k, label in enumerate(labels):
            figures.append(_dice(f"dice[{label}]", overlap[:, k], [c[:, k] for c in constants], ids))
            figures.append(_hd95(f"hd95[{label}]", distance[:, k], ids, stream))
    return tuple(figures)


def _surface(mask: _Mask) -> _Mask:
    """Pixels of the mask with a neighbour outside it, the edge of the picture being outside."""
    surface: _Mask = mask & ~ndimage.binary_erosion(mask)
    return surface


def _per_patient(values: _Floats, units: NDArray[np.int64]) -> _Floats:
    sums = unit_sums(np.stack([values, np.ones(len(values))], 1), units)
    means: _Floats = sums[:, 0] / sums[:, 1]
    return means


def _dice(name: str, values: _Floats, constants: Sequence[_Floats], units: NDArray[np.int64]) -> Measure:
    patients = _per_patient(values, units)
    chance = max(float(_per_patient(constant, units).mean()) for constant in constants)
    return Measure(name, *bounded_mean(patients, np.arange(len(patients)), 0.0, 1.0), chance, len(patients))


def _chance(constants: Sequence[_Floats], units: NDArray[np.int64]) -> float:
    """Of the mean Dice: each label's own best constant, the mean over labels."""
    each = [[float(_per_patient(part, units).mean()) for part in constant.T] for constant in constants]
    return float(np.max(each, axis=0).mean())


def _hd95(name: str, values: _Floats, units: NDArray[np.int64], stream: Stream) -> Measure:
    patients = _per_patient(values, units)
    columns = np.stack([patients, np.ones(len(patients))], 1)
    sums, counts = resampled_sums(columns, stream.child("hd95")).T
    low, high = np.quantile(sums / counts, [0.025, 0.975])
    value = float(patients.mean())
    return Measure(name, value, float(min(low, value)), float(max(high, value)), None, len(patients), "px")


def _empty(name: str, masks: Tensor) -> Measure:
    """Records without any label."""
    return Measure(name, float((~masks.flatten(1).any(1)).sum()), n=len(masks), unit="records")
