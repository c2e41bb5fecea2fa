"""Membership without a model: can members be distinguished from non-members by the records alone?

    random forest on (principal components of x, mean and deviation of x, y)  ->  member?

It learns on the calibration half and is judged on the other; the scores of the former are out of bag.  It must be at
chance.  Where it is not, the two come from different distributions, and every other membership figure on them may be a
difference between the records that no model revealed.

Source: Das, Zhang and Tramer 2024, Blind Baselines Beat Membership Inference Attacks, arXiv 2406.16201.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier

from consilium.core.attack import Attack
from consilium.core.entry import check
from consilium.core.finding import Finding
from consilium.core.random import Stream
from consilium.core.threat import RecordsView, ThreatModel
from consilium.core.update import Payload
from consilium.measure.membership import membership

__all__ = ["Blind"]

_COMPONENTS = 32
_TOLD = "Members and non-members are told apart without any model: no membership figure of this model can be trusted."


@dataclass(frozen=True)
class Blind(Attack[RecordsView]):
    """Has no model and must be at chance: the check that members and non-members are from one distribution."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[RecordsView]] = RecordsView
    trees: int = 60
    """Trees of the random forest."""

    def __post_init__(self) -> None:
        check(10 <= self.trees <= 10_000, "trees", self.trees, "10 to 10000 trees")

    def run(self, view: RecordsView, memory: Payload, generator: torch.Generator) -> Finding:
        """No query.  Scores: ``score``, ``member``, ``known`` (n,)."""
        seed = int(torch.randint(2**31, (1,), generator=generator))
        known, truth = view.known.numpy(), view.member.numpy()
        features = _features(view)
        forest = RandomForestClassifier(
            self.trees, min_samples_leaf=5, oob_score=True, random_state=seed, n_jobs=1, bootstrap=True
        )
        p = np.full(len(truth), truth[known].mean())
        if 0 < truth[known].sum() < known.sum():
            forest.fit(features[known], truth[known])
            p[known] = np.nan_to_num(forest.oob_decision_function_[:, 1], nan=truth[known].mean())
            p[~known] = forest.predict_proba(features[~known])[:, 1]
        scores = torch.from_numpy(p).double()
        measures = membership(scores, view.member, Stream(seed), known=view.known, units=view.candidates.units)
        auc = next(m for m in measures if m.name == "auc")
        shift = auc.low is not None and auc.low > 0.5
        score = {"score": scores, "member": view.member, "known": view.known}
        return Finding(measures, score, notes=(_TOLD,) if shift else ())


def _features(view: RecordsView) -> npt.NDArray[np.float64]:
    """Components fitted on the calibration half, two moments, and the label as a column each."""
    x = view.candidates.x.flatten(1).double().numpy()
    known, y = view.known.numpy(), _labels(view)
    moments = np.stack([x.mean(1), x.std(1)], 1)
    few = min(_COMPONENTS, x.shape[1], max(1, int(known.sum()) - 1))
    parts = PCA(few, svd_solver="full" if x.shape[1] > known.sum() else "covariance_eigh").fit(x[known]).transform(x)
    return np.concatenate([parts, moments, y], 1)


def _labels(view: RecordsView) -> npt.NDArray[np.float64]:
    """A class as a column each; else the first labels of a record as they are, a mask's by their moments."""
    y = view.candidates.y
    if view.task.exclusive:
        classes: npt.NDArray[np.float64] = np.eye(view.classes)[y.numpy()]
        return classes
    flat = y.flatten(1).double().numpy()
    few: npt.NDArray[np.float64] = flat if flat.shape[1] <= _COMPONENTS else np.stack([flat.mean(1), flat.std(1)], 1)
    return few
