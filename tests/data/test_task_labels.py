"""An npz whose labels are findings, numbers, masks or times; what does not fit is refused by record."""

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.division.sites import gather, label_counts
from consilium.data.partitions.dirichlet import Dirichlet
from consilium.data.partitions.iid import IID
from consilium.data.sources.digits import Digits
from consilium.data.sources.npz import NPZ
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.survival import Survival

RNG = np.random.default_rng(0)
N = 120
X = RNG.random((N, 6, 5)).astype(np.float32)
SHARES = {"public": 0.1, "validation": 0.1, "test": 0.2, "non_members": 0.2}
FINDINGS = (RNG.random((N, 3)) < 0.4).astype(np.int64)
TIMES = np.stack([1 + 8 * RNG.random(N), RNG.random(N) < 0.5], 1)
NUMBER = Regression(low=0.0, high=10.0, tolerance=1.0)


@pytest.fixture
def saved(tmp_path):
    def save(y, **arrays):
        np.savez(tmp_path / "mine.npz", x=X, y=y, **arrays)
        return str(tmp_path / "mine.npz")

    return save


@pytest.mark.parametrize(
    ("task", "y", "dtype", "shape", "names"),
    [
        (MultiLabel(), FINDINGS, torch.int64, (3,), ("label 0", "label 1", "label 2")),
        (MultiLabel(), FINDINGS[:, 0].astype(bool), torch.int64, (1,), ("label 0",)),
        (NUMBER, 10 * RNG.random(N), torch.float32, (1,), ("label 0",)),
        (NUMBER, RNG.integers(0, 10, (N, 2)), torch.float32, (2,), ("label 0", "label 1")),
        (Masks(threshold=0.5), RNG.integers(0, 3, (N, 6, 5)), torch.int64, (6, 5), ("label 0", "label 1", "label 2")),
        (Survival(cuts=(2.0, 5.0), horizon=5.0), TIMES, torch.float32, (2,), ("time", "event")),
    ],
)
def test_labels_are_read_as_the_task_has_them_and_divided_like_any(saved, task, y, dtype, shape, names):
    data = gather(NPZ(saved(y)), Dirichlet(alpha=5.0, minimum=5), task, sites=2, stream=Stream(0), **SHARES)
    assert data.task == task and data.classes == names
    train = data.sites[0].records.train
    assert train.y.dtype == dtype and tuple(train.y.shape[1:]) == shape
    pools = [p for s in data.sites for p in (s.records.train, s.records.validation, s.records.non_members)]
    assert sum(map(len, pools)) + len(data.test) + len(data.public) == N
    task.check_labels(train.y, data.classes, data.shape, "here")


def test_findings_are_counted_by_site_and_other_labels_are_no_counts(saved):
    data = gather(NPZ(saved(FINDINGS)), IID(), MultiLabel(), sites=2, stream=Stream(0), **SHARES)
    assert label_counts(data) == [[int(site.records.train.y[:, k].sum()) for site in data.sites] for k in range(3)]
    data = gather(NPZ(saved(10 * RNG.random(N))), IID(), NUMBER, sites=2, stream=Stream(0), **SHARES)
    assert label_counts(data) == []


@pytest.mark.parametrize(
    ("task", "y", "reason"),
    [
        (MultiLabel(), FINDINGS + 1, "a finding that is neither 0 nor 1 (such as 2)"),
        (MultiLabel(), FINDINGS + 0.5, "record 0 has the label"),
        (MultiLabel(), FINDINGS[:60], "60 labels for 120 records"),
        (MultiLabel(), np.array(["ill"] * N), "labels are of type <U3"),
        (NUMBER, np.full(N, 11.0), "a label outside the declared range, 0 to 10"),
        (Regression(low=0.0, high=2e9, tolerance=1.0), 1.7e9 + np.arange(N), "120 different labels would become"),
        (Masks(threshold=0.5), np.zeros((N, 5, 6), int), "a mask has shape (5, 6), not (6, 5)"),
        (Survival(cuts=(2.0, 5.0), horizon=5.0), TIMES[:, 0], "labels of shape (120, 1)"),
    ],
)
def test_what_does_not_fit_is_refused(saved, task, y, reason):
    with pytest.raises(Refused) as error:
        gather(NPZ(saved(y)), IID(), task, sites=2, stream=Stream(0), **SHARES)
    assert reason in str(error.value)


def test_a_source_of_classes_is_refused_for_another_task():
    with pytest.raises(Refused, match="the source digits has one class for each record, and the task is multi-label"):
        gather(Digits(), IID(), MultiLabel(), sites=2, stream=Stream(0), **SHARES)
