"""The user's npz: what is read, and that nothing in such a file can do worse than be refused."""

import io
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.data.files.archive import read_npz
from consilium.data.sources.npz import NPZ

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8), np.arange(12) % 2


@pytest.fixture
def saved(tmp_path):
    def save(**arrays):
        path = tmp_path / "mine.npz"
        np.savez_compressed(path, **arrays)
        return str(path)

    return save


def refusal(source):
    with pytest.raises(Refused) as caught:
        source.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_x_and_y(saved):
    path = saved(x=X, y=Y)
    dataset = NPZ(path).load()
    assert dataset.records.x.shape == (12, 1, 4, 4) and dataset.records.y.tolist() == Y.tolist()
    assert (dataset.split, dataset.keys, dataset.classes, dataset.bundled) == (None, None, ("0", "1"), False)
    assert dataset.provenance.startswith(f"{path}, sha256 ") and len(dataset.provenance) == len(path) + 9 + 64
    assert torch.equal(dataset.records.units, dataset.records.ids)
    assert "read from the labels" in dataset.notes[0]


def test_patients_sites_and_names(saved):
    path = saved(x=X, y=Y, units=np.arange(12) // 3, keys=np.array(["north", "south"] * 6))
    dataset = NPZ(path, classes=("well", "ill")).load()
    assert dataset.records.units.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert dataset.keys.tolist() == [0, 1] * 6 and dataset.key_names == ("north", "south")
    assert dataset.classes == ("well", "ill") and dataset.notes == ()


def test_the_names_of_medmnist(saved):
    parts = {"train": slice(0, 6), "val": slice(6, 8), "test": slice(8, 12)}
    arrays = {f"{name}_images": X[rows] for name, rows in parts.items()}
    arrays |= {f"{name}_labels": Y[rows][:, None] for name, rows in parts.items()}
    arrays |= {f"{name}_units": Y[rows] for name, rows in parts.items()}
    dataset = NPZ(saved(**arrays)).load()
    assert dataset.split.tolist() == [0] * 6 + [1] * 2 + [2] * 4
    assert dataset.records.y.tolist() == dataset.records.units.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X}, "there is no array 'y' (found: x)"),
        ({"y": Y}, "there is no array 'x' (found: y)"),
        ({"images": X, "labels": Y}, "Rename images to x, labels to y (names are case sensitive)"),
        ({"foo": X, "bar": Y}, "It holds foo.npy, bar.npy"),
        ({"val_images": X, "val_labels": Y}, "there is no array 'train_images'"),
        ({"train_images": X, "train_labels": Y, "test_images": X}, "there is no array 'test_labels'"),
        ({"train_images": X, "train_labels": Y, "test_images": X[:, :3], "test_labels": Y}, "different shapes"),
        ({"train_images": X, "train_labels": Y, "val_images": X, "val_labels": Y, "val_units": Y}, "units is not"),
        ({"x": X, "y": Y[:5]}, "[y]: (5,) labels for 12 records"),
        ({"x": X, "y": Y - 1}, "[y]: record 0 has the label -1"),
        ({"x": X, "y": Y * 3}, "labels run up to 3, and no record has the label 1"),
        ({"x": X / 1.0, "y": Y}, "[x]: record 0 and 11 more have values outside [0, 1]"),
        ({"x": np.where(X > 200, np.nan, 0.5), "y": Y}, "NaN or infinite values"),
        ({"x": X, "y": Y, "units": Y[:3]}, "[units]: shape (3,) for 12 records"),
        ({"x": X, "y": Y, "keys": np.full(12, np.nan)}, "[keys]: record 0 is named nan: NaN is not a name"),
        ({"x": X[:0], "y": Y[:0]}, "there are no inputs"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(saved, arrays, said):
    assert said in refusal(NPZ(saved(**arrays)))


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (("X", "y"), "Rename X to x"),
        (("x", "Y"), "Rename Y to y"),
        (("data", "target"), "Rename data to x, target to y"),
        (("x", "y", "Units"), "Rename Units to units"),
        (("x", "y", "Keys"), "Rename Keys to keys"),
        (("x_train", "y_train", "x_test", "y_test"),
         "Rename x_train to train_images, y_train to train_labels, x_test to test_images, y_test to test_labels"),
        (("train_images", "train_labels", "X_valid", "Y_valid"), "Rename X_valid to val_images, Y_valid to val_labels"),
        (("train_images", "train_labels", "train_Images"), "'train_images' and 'train_Images' both name train_images"),
    ],
)  # fmt: skip
def test_the_refusal_says_which_array_is_probably_meant(saved, names, remedy):
    def is_inputs(name):
        return any(word in name.casefold() for word in ("x", "images", "data"))

    assert remedy in refusal(NPZ(saved(**{name: X if is_inputs(name) else Y for name in names})))


def test_names_that_only_resemble_one_that_is_there_are_counted(saved):
    dataset = NPZ(saved(x=X, y=Y, data=X, labels=Y)).load()
    assert [one.line() for one in dataset.omitted] == ["2 arrays not read: data, labels"]
    parts = {"train_images": X[:8], "train_labels": Y[:8], "test_images": X[8:], "test_labels": Y[8:]}
    assert [one.count for one in NPZ(saved(**parts, data=X, Units=Y)).load().omitted] == [2]


@pytest.mark.parametrize("again", ["x.npy", "x"])
def test_two_arrays_of_one_name_are_refused(saved, again):
    path = saved(x=X, y=Y)
    other = io.BytesIO()
    np.save(other, X[::-1])
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(again, other.getvalue())
    assert "holds 2 arrays called 'x'" in refusal(NPZ(path))


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.eye(2, dtype=np.uint8)[Y], "[y]: labels are one-hot rows of 2. Store their places: y.argmax(axis=1)"),
        (np.eye(2, dtype=bool)[Y], "labels are one-hot rows of 2"),
        (np.eye(3, dtype=np.float32)[Y], "labels are one-hot rows of 3"),
        (np.ones((12, 2), int), "there are 2 labels for each record"),
        (np.array(["ill", "well"])[Y], "[y]: labels are text, such as 'ill'. Number them: names, y = numpy.unique"),
        (np.array([b"ill", b"well"])[Y], "labels are text"),
        (Y + 0.5, "record 0 has the label 0.5"),
        (np.where(Y, np.nan, 0.0), "record 1 has the label nan"),
    ],
)
def test_labels_of_another_form_are_refused_with_the_step_that_mends_them(saved, y, said):
    assert said in refusal(NPZ(saved(x=X, y=y)))


def test_labels_may_be_bits(saved):
    assert NPZ(saved(x=X, y=Y.astype(bool))).load().records.y.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (X.astype(np.float32), "divide by the greatest value that is possible (255 for bytes)"),
        (X.astype(np.uint16) * 257, "[x]: inputs are of type uint16. Store uint8 images (0 to 255), or floats"),
        (X.astype(np.int64), "inputs are of type int64"),
        (np.where(np.arange(12) == 7, np.nan, 0.5)[:, None, None] * np.ones((12, 4, 4)), "[x]: record 7 has NaN"),
    ],
)
def test_values_that_are_no_share_of_a_greatest_one(saved, x, said):
    assert said in refusal(NPZ(saved(x=x, y=Y)))


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 8, 3), (3, 8, 3), (3, 8, 1), (1, 8, 1)])
def test_axes_that_are_ambiguous_are_refused(saved, shape):
    said = refusal(NPZ(saved(x=np.zeros((12, *shape), np.uint8), y=Y)))
    assert f"inputs have shape {(12, *shape)}: the channels can be the second axis or the last" in said


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 3), (1, 8, 8), (8, 8, 1), (8, 8), (1, 1, 1)])
def test_axes_that_are_not(saved, shape):
    right = {(8, 8, 3): (3, 8, 8), (8, 8, 1): (1, 8, 8), (8, 8): (1, 8, 8)}.get(shape, shape)
    assert NPZ(saved(x=np.zeros((12, *shape), np.uint8), y=Y)).load().records.x.shape == (12, *right)


def test_labels_beyond_the_named_classes(saved):
    assert "a label outside 0..1 (such as 2)" in refusal(NPZ(saved(x=X, y=np.arange(12) % 3), classes=("a", "b")))


def test_the_path(tmp_path):
    assert "path: " in refusal(NPZ(str(tmp_path / "none.npz"))) and "does not exist" in refusal(NPZ("none.npz"))
    assert "is a folder, not a file" in refusal(NPZ(str(tmp_path)))
    assert "unknown home" in refusal(NPZ("~nobody-of-that-name/x.npz"))


@pytest.mark.parametrize(
    "make", [lambda: NPZ("x", classes=()), lambda: NPZ("x", classes=("a", "a")), lambda: NPZ("x", max_bytes=0)]
)
def test_knobs_out_of_range(make):
    with pytest.raises(Refused, match="out of range"):
        make()


def test_pickle_is_never_read(saved):
    said = refusal(NPZ(saved(x=np.array([{"a": 1}, print], dtype=object), y=Y[:2])))
    assert "array x.npy holds Python objects, which are never read" in said and "x=x.astype('float32')" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("units", "units=numpy.array([str(one) for one in units])"),
        ("keys", "Store names as text"),
        ("y", "y=y.astype('int64')"),
    ],
)
def test_the_remedy_for_objects_names_their_array(saved, name, said):
    arrays = {"x": X, "y": Y, name: np.array(["p1", None] * (len(Y) // 2) + [None] * (len(Y) % 2), dtype=object)}
    assert said in refusal(NPZ(saved(**arrays)))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * 20_000_000)
        archive.writestr("y.npy", b"")
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("was unpacked"))
    assert path.stat().st_size < 50_000
    assert "becomes 0.0 GB in memory, more than max-bytes" in refusal(NPZ(str(path), max_bytes=10_000_000))


def test_the_limit_counts_inputs_as_float32(saved):
    path = saved(x=np.zeros((1000, 100), np.uint8), y=np.zeros(1000, np.uint8))
    assert "more than max-bytes" in refusal(NPZ(path, max_bytes=400_000))
    assert len(NPZ(path, classes=("a", "b"), max_bytes=404_000).load().records) == 1000


def test_a_header_that_claims_more_than_there_is(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1000, 10)})
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + b"\0" * 100)
    assert "declares shape (1000, 10), which does not match its size" in refusal(NPZ(str(tmp_path / "lies.npz")))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip at all", struct.pack("<I", 0x06054B50) * 9])
def test_bytes_that_are_no_zip(tmp_path, content):
    (tmp_path / "broken.npz").write_bytes(content)
    assert "is not a sound npz file" in refusal(NPZ(str(tmp_path / "broken.npz")))


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_whatever_happened_to_the_bytes_it_is_read_or_refused(tmp_path_factory, changes, cut):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=X, y=Y, units=Y)
    content = bytearray(buffer.getvalue()[:cut])
    for place, value in changes:
        if content:
            content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "mutated.npz"
    path.write_bytes(content)
    try:
        dataset = NPZ(str(path), max_bytes=1_000_000).load()
    except Refused as error:
        assert "\n" not in str(error)
    else:
        assert len(dataset.records) == 12


def test_only_what_is_wanted_is_read(saved):
    path = saved(x=X, y=Y, extra=np.array([object()], dtype=object))
    assert sorted(read_npz(path, {"x", "y", "units"})) == ["x", "y"]


def test_one_name_is_no_list_of_classes(saved):
    said = refusal(NPZ(saved(x=X, y=np.zeros(12, int)), classes=("only",)))
    assert "classes: ('only',) is out of range. Use two different names or more" in said
