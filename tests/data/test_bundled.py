"""The two sets that every machine has."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

from consilium.data.sources import breast_cancer
from consilium.data.sources.breast_cancer import BreastCancer
from consilium.data.sources.digits import Digits


def test_digits():
    dataset = Digits().load()
    assert dataset.records.x.shape == (1797, 1, 8, 8) and dataset.records.x.dtype == torch.float32
    assert (float(dataset.records.x.min()), float(dataset.records.x.max())) == (0.0, 1.0)
    assert torch.bincount(dataset.records.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert dataset.bundled and "scikit-learn" in dataset.provenance and not dataset.fitted_on_private


def test_breast_cancer_is_scaled_by_public_constants():
    dataset = BreastCancer().load()
    assert dataset.records.x.shape == (569, 30) and dataset.classes == ("malignant", "benign")
    assert torch.bincount(dataset.records.y).tolist() == [212, 357]
    assert dataset.bundled and not dataset.fitted_on_private
    low, high = np.array(breast_cancer._LOW), np.array(breast_cancer._HIGH)
    clipped = np.abs(dataset.records.x.numpy() * (high - low) + low - load_breast_cancer().data)
    assert (clipped <= 0.0006 + 1e-6 * high).all()  # the constants are rounded to three decimals


def test_the_constants_are_those_that_are_published():
    printed = [line.split() for line in load_breast_cancer().DESCR.splitlines() if line.rstrip()[-1:].isdigit()]
    rows = [words for words in printed if len(words) >= 3 and words[-3].endswith("):")]
    assert [float(words[-2]) for words in rows] == list(breast_cancer._LOW)
    assert [float(words[-1]) for words in rows] == list(breast_cancer._HIGH)
