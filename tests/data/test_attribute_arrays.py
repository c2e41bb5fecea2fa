"""Attributes in an npz: an array of one value a record, beside x or beside each part of a split."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.data.sources.npz import NPZ

RNG = np.random.default_rng(0)
X = RNG.random((6, 3)).astype(np.float32)
Y = np.arange(6) % 2
SEX = np.array(["F", "M", "", "M", "F", "nan"])


@pytest.fixture
def saved(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return str(tmp_path / "mine.npz")

    return save


def test_words_and_numbers_are_kept_and_gaps_are_not_known(saved):
    age = np.array([30.0, 9.0, 30.5, np.nan, 9.0, 30.0])
    path = saved(x=X, y=Y, sex=SEX, age=age, other=Y)
    data = NPZ(path, attributes=("sex", "age")).load()
    sex, ages = data.records.attributes
    assert (sex.words, sex.codes.tolist()) == (("F", "M"), [0, 1, -1, 1, 0, -1])
    assert (ages.words, ages.codes.tolist()) == (("9", "30", "30.5"), [1, 0, 2, -1, 0, 1])
    assert [one.line() for one in data.omitted] == [
        "1 arrays not read: other",
        "2 values of the attribute 'sex' are not known",
        "1 values of the attribute 'age' are not known",
    ]
    assert data.records.x.shape == (6, 3) and NPZ(path).load().records.attributes == ()


def test_each_part_of_a_split_has_its_own(saved):
    parts = {"train": slice(0, 3), "val": slice(3, 4), "test": slice(4, 6)}
    arrays = {f"{name}_{kind}": array[rows] for name, rows in parts.items()
              for kind, array in (("images", X), ("labels", Y), ("sex", SEX))}  # fmt: skip
    data = NPZ(saved(**arrays), attributes=("sex",)).load()
    assert data.records.attributes[0].codes.tolist() == [0, 1, -1, 1, 0, -1]
    del arrays["val_sex"]
    with pytest.raises(Refused, match="5 values of the attribute 'sex' for 6 records"):
        NPZ(saved(**arrays), attributes=("sex",)).load()


@pytest.mark.parametrize(
    ("arrays", "knobs", "said"),
    [
        ({}, {}, "there is no array 'sex' for the attribute of that name. Store it: numpy.savez(path, ..., sex=sex)"),
        ({"sex": SEX[:5]}, {}, "5 values of the attribute 'sex' for 6 records"),
        ({"sex": np.ones((6, 2))}, {}, "array 'sex' has shape (6, 2) and type float64"),
        ({"sex": np.array(["", "nan"] * 3)}, {}, "the attribute 'sex' is known of no record"),
        ({"sex": np.array(["F", "f", "M"] * 2)}, {}, "column 'sex' holds 'F' and, in row 1, 'f'"),
        ({"sex": SEX, "columns": np.array(["age", "sex", "bp"])}, {}, "the attribute 'sex' is a feature of x, too"),
        ({}, {"attributes": ("y",)}, "attributes: the array 'y' has another meaning"),
        ({}, {"also_inputs": ("age",)}, "column 'age' is no attribute, so it is an input already"),
    ],
)
def test_what_is_no_attribute_is_refused(saved, arrays, knobs, said):
    with pytest.raises(Refused) as caught:
        NPZ(saved(x=X, y=Y, **arrays), **{"attributes": ("sex",), **knobs}).load()
    assert said in str(caught.value)


def test_an_attribute_is_a_feature_where_that_is_said(saved):
    path = saved(x=X, y=Y, sex=SEX, columns=np.array(["age", "sex", "bp"]))
    data = NPZ(path, attributes=("sex",), also_inputs=("sex",)).load()
    assert data.records.attributes[0].words == ("F", "M")
    assert list(NPZ("x.npz").configuration()) == ["kind", "path", "classes", "max-bytes"]
