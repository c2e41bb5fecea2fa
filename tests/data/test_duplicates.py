"""Planted duplicates are found, by place; what is left stands once and in the split that judges."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from consilium.data.checks.duplicates import deduplicate, untangle
from consilium.data.dataset import SPLITS, TEST, TRAIN, VALIDATION
from consilium.data.sources.npz import NPZ

A, B, C, D = [0.1, 0.0], [0.2, 0.0], [0.3, 0.0], [0.4, 0.0]


def test_every_planted_duplicate_is_counted_where_it_stands(toy):
    x = [A, A, B, C, B, C, D, D]
    split = [TRAIN, TRAIN, TRAIN, TRAIN, VALIDATION, TEST, TEST, TEST]
    kept, removed = deduplicate(toy(x, [0, 0, 1, 0, 1, 0, 1, 1], split=split))
    assert removed == {"train": 1, "train/validation": 1, "train/test": 1, "test": 1}
    assert kept.records.ids.tolist() == [0, 4, 5, 6]
    assert kept.split.tolist() == [TRAIN, VALIDATION, TEST, TEST]


def test_an_image_twice_in_train_and_once_in_validation_stays_in_validation(toy):
    kept, removed = deduplicate(toy([A, A, A, B], [0, 0, 0, 1], split=[TRAIN, TRAIN, VALIDATION, TRAIN]))
    assert removed == {"train": 1, "train/validation": 1}
    assert kept.records.ids.tolist() == [2, 3]


def test_equal_inputs_with_different_labels_follow_the_same_rule_and_are_counted_apart(toy):
    kept, removed = deduplicate(toy([A, B, A, B], [0, 1, 1, 1], split=[TRAIN, TRAIN, TRAIN, TEST]))
    assert removed == {"train (other label)": 1, "train/test": 1}
    assert [one.line() for one in kept.omitted] == [
        "1 exact duplicates removed",
        "1 exact duplicates removed, whose copies that stay bear another label: which one is right?",
    ]
    assert kept.records.ids.tolist() == [0, 3]
    assert kept.records.y.tolist() == [0, 1]


def test_without_a_split_there_is_one_place(toy):
    assert deduplicate(toy([A, A, B], [0, 0, 1]))[1] == {"records": 1}


def test_minus_zero_is_zero(toy):
    assert deduplicate(toy([[0.0], [-0.0]], [0, 1]))[1] == {"records (other label)": 1}


def test_what_belongs_to_a_record_goes_with_it(toy):
    kept, _ = deduplicate(toy([A, A, B], [0, 0, 1], units=[7, 8, 9], keys=[0, 1, 2]))
    assert kept.records.units.tolist() == [7, 9]
    assert kept.keys.tolist() == [0, 2]


def test_nothing_is_removed_where_all_differ(toy):
    dataset = toy(y=[0, 1, 0])
    kept, removed = deduplicate(dataset)
    assert kept is dataset and removed == {}


rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=40)


@given(rows)
def test_what_stays_is_every_input_once_in_its_highest_split(toy, rows):
    x, y, split = zip(*rows, strict=True)
    kept, removed = deduplicate(toy([[v / 8] for v in x], y, split=split, classes=("a", "b")))
    highest = {v: max(s for w, _, s in rows if w == v) for v in set(x)}
    found = {round(float(v) * 8): int(s) for (v,), s in zip(kept.records.x, kept.split, strict=True)}
    assert found == highest
    assert len(kept.records) == len(highest) == len(rows) - sum(removed.values())


def test_a_unit_in_two_given_splits_stays_where_it_judges(toy):
    split = [TRAIN, VALIDATION, TRAIN, TEST, TRAIN]
    kept, removed = untangle(toy(y=[0, 1, 0, 1, 0], units=[5, 5, 6, 6, 7], split=split))
    assert removed == {"train/test (same unit)": 1, "train/validation (same unit)": 1}
    assert kept.records.ids.tolist() == [1, 3, 4]


def test_units_without_a_given_split_are_left_alone(toy):
    dataset = toy(y=[0, 1], units=[5, 5])
    assert untangle(dataset) == (dataset, {})


def test_the_figures_of_the_real_file(real):
    from consilium.data.sources.pneumonia_mnist import PneumoniaMNIST

    dataset = PneumoniaMNIST().load()
    assert [int((dataset.split == k).sum()) for k in range(len(SPLITS))] == [4708, 524, 624]
    kept, removed = deduplicate(dataset)
    assert removed == {"train": 1 + 17, "test": 3, "train/validation": 8}
    by_label = [torch.bincount(kept.records.y[kept.split == k]).tolist() for k in range(len(SPLITS))]
    assert by_label == [[1213, 3477 - 8], [135, 389], [234, 387]]


def parts(train, test):
    labels = {"train_labels": np.arange(len(train)) % 2, "test_labels": np.arange(len(test)) % 2}
    return {"train_images": train, "test_images": test, **labels}


@pytest.mark.parametrize(
    "coarse", [lambda x: x.astype(np.float16), lambda x: np.rint(x * 255).astype(np.uint8)], ids=["float16", "uint8"]
)
@pytest.mark.parametrize("order", [1, -1])
def test_copies_that_rounding_changed_are_noted(tmp_path, coarse, order):
    x = np.random.default_rng(0).random((40, 6, 6)).astype(np.float32)
    arrays = (x, coarse(x[:12]))[::order]
    np.savez(tmp_path / "x.npz", **parts(*arrays))
    data = NPZ(str(tmp_path / "x.npz")).load()
    (note,) = data.cautions
    assert note.startswith("12 records of ") and "once they are rounded to" in note
    assert not deduplicate(data)[1], "they are no exact duplicates"


@pytest.mark.parametrize("form", [np.float16, np.float32, np.float64])
def test_other_records_and_exact_copies_are_not(tmp_path, form):
    x = np.random.default_rng(0).random((52, 6, 6))
    np.savez(tmp_path / "x.npz", **parts(x[:40].astype(np.float32), x[40:].astype(form)))
    assert not NPZ(str(tmp_path / "x.npz")).load().cautions
    exact = x[:40].astype(np.float16).astype(np.float32)
    np.savez(tmp_path / "x.npz", **parts(exact, exact[:12].astype(form)))
    data = NPZ(str(tmp_path / "x.npz")).load()
    assert not data.cautions and sum(deduplicate(data)[1].values()) == 12
