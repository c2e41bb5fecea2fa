"""Arrays become channels-first float32 in [0, 1], or a refusal that names the array."""

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.data.files.arrays import identities, inputs, labels, numbered


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((5, 7), (5, 7)),
        ((5, 4, 6), (5, 1, 4, 6)),
        ((5, 4, 6, 1), (5, 1, 4, 6)),
        ((5, 4, 6, 3), (5, 3, 4, 6)),
        ((5, 3, 4, 6), (5, 3, 4, 6)),
        ((5, 1, 4, 6), (5, 1, 4, 6)),
    ],
)
def test_images_become_channels_first(given, shape):
    array = np.random.default_rng(0).integers(0, 256, given, dtype=np.uint8)
    x = inputs(array, "x")
    assert x.shape == shape and x.dtype == torch.float32
    assert sorted((x * 255).round().flatten().tolist()) == sorted(array.flatten().tolist())


def test_bytes_are_divided_by_255_and_the_array_is_left_alone():
    array = np.array([[0, 51, 255]], dtype=np.uint8)
    array.setflags(write=False)
    assert inputs(array, "x").tolist() == [[0.0, pytest.approx(0.2), 1.0]]
    assert array.tolist() == [[0, 51, 255]]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f4", ">f8"])
def test_floats_stay_as_they_are(kind):
    assert inputs(np.array([[0.0, 0.25, 1.0]], dtype=kind), "x").tolist() == [[0.0, 0.25, 1.0]]


def test_a_pixel_stands_where_it_stood():
    array = np.zeros((1, 2, 3, 3), np.uint8)
    array[0, 1, 2, 0] = 255
    assert inputs(array, "x").nonzero().tolist() == [[0, 0, 1, 2]]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 3), np.int64), "inputs are of type int64. Store uint8"),
        (np.zeros((2, 3), np.longdouble), "Store uint8 images"),
        (np.array([["a"]]), "inputs are of type <U1"),
        (np.zeros((2, 5, 5, 5), np.uint8), "inputs have shape (2, 5, 5, 5)"),
        (np.zeros(3, np.uint8), "inputs have shape (3,)"),
        (np.zeros((0, 3), np.uint8), "there are no inputs"),
        (np.array([[np.nan]]), "record 0 has NaN"),
        (np.array([[1e300]]), "record 0 has NaN or infinite"),
        (np.array([[17.0]]), "outside [0, 1]"),
    ],
)
def test_inputs_that_are_refused(array, said):
    with pytest.raises(Refused) as caught:
        inputs(array, "file[x]")
    assert said in str(caught.value) and str(caught.value).startswith("file[x]: ")


@pytest.mark.parametrize(
    "array",
    [np.array([0, 2, 1]), np.array([[0], [2], [1]], np.uint8), np.array([0.0, 2.0, 1.0]), np.array([0, 2, 1], ">i2")],
)
def test_labels_are_whole_numbers(array):
    y = labels(array, 3, "y")
    assert y.tolist() == [0, 2, 1] and y.dtype == torch.int64


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([0, -1, 1]), "record 1 has the label -1"),
        (np.array([0, 0.5, 1]), "record 1 has the label 0.5"),
        (np.array([0, np.nan, 1]), "record 1 has the label nan"),
        (np.array([0, 2**63, 1], np.uint64), "record 1 has the label 9223372036854775808"),
        (np.array(["a", "b", "c"]), "labels are of type <U1"),
        (np.array([0, 1]), "(2,) labels for 3 records"),
        (np.zeros((3, 14)), "there are 14 labels for each record"),
        (np.array(0), "labels for 3 records"),
    ],
)
def test_labels_that_are_refused(array, said):
    with pytest.raises(Refused) as caught:
        labels(array, 3, "file[y]")
    assert said in str(caught.value)


def test_groups_of_any_values_are_numbered_in_sorted_order():
    numbers, names = numbered(["b", "a", "b"])
    assert numbers.tolist() == [1, 0, 1] and names == ("a", "b")
    assert numbered(["20", "7"])[1] == ("20", "7") and numbered(["20", "7"], whole=True)[1] == ("7", "20")


@pytest.mark.parametrize("values", [[1.0, float("nan")], [0.5], [2.0**53], ["a", ""], ["a", "  "], [float("inf")]])
def test_names_that_are_refused(values):
    with pytest.raises(Refused, match=f"file.*record {len(values) - 1}"):
        identities(values, "file[units]")


def test_names_are_text_and_stay_apart():
    """No name is a measurement: long ones keep their digits, and a leading zero is part of it."""
    long = [str(10**17 + k) for k in range(3)]
    assert identities([*long, "01", "1", "1e2", "100", " 7 "], "x") == [*long, "01", "1", "1e2", "100", "7"]
    assert identities([10**17, 10**17 + 1, 3.0, True], "x") == [str(10**17), str(10**17 + 1), "3", "1"]
    assert identities(["e\u0301", "\u00e9"], "x") == ["\u00e9"] * 2  # one letter, typed in two ways
