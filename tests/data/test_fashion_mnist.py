"""idx files are read by their header, and what they hold decides whether it is Fashion-MNIST."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.data.dataset import TEST, TRAIN
from consilium.data.sources import fashion_mnist
from consilium.data.sources.fashion_mnist import FashionMNIST

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of four small files, which is CONSILIUM_DATA/fashion-mnist; there is no Debian package."""
    monkeypatch.setenv("CONSILIUM_DATA", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", str(tmp_path / "none"))
    root = tmp_path / "fashion-mnist"
    root.mkdir()
    rng = np.random.default_rng(0)
    for name, n in (("train", 30), ("t10k", 10)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        write(root / f"{name}-images-idx3-ubyte.gz", idx(images))
        write(root / f"{name}-labels-idx1-ubyte.gz", idx((np.arange(n) % 10).astype(np.uint8)))
    return root


def write(path, content):
    path.write_bytes(gzip.compress(content))


def test_the_files_are_found_and_read(folder):
    dataset = FashionMNIST().load()
    assert dataset.records.x.shape == (40, 1, 28, 28)
    assert dataset.records.y.tolist() == [k % 10 for k in range(30)] + list(range(10))
    assert torch.bincount(dataset.split).tolist() == [30, 0, 10]
    assert dataset.provenance.startswith(f"{folder}, 4 files, sha256 of their list ")
    assert not dataset.bundled and dataset.notes == ("not the published images and labels",)
    assert FashionMNIST(path=str(folder)).load().provenance == dataset.provenance


def test_a_machine_without_it_is_told_how_to_come_by_it(folder):
    (folder / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(Refused, match="apt-get install dataset-fashion-mnist"):
        FashionMNIST().load()
    with pytest.raises(Refused, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        FashionMNIST(path=str(folder)).load()
    with pytest.raises(Refused, match="does not exist"):
        FashionMNIST(path=str(folder / "none")).load()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not an idx file"),
        (b"\0\0\x08\x03\0\0", "is not an idx file"),
        (b"\0\0\x08\0", "is not an idx file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0", "is not an idx file"),
        (idx(np.zeros((30, 28, 28), np.uint8))[:-1], "is not an idx file"),
        (idx(np.zeros(30, np.uint8)), "inputs have shape"),
        (idx(np.zeros((29, 28, 28), np.uint8)), r"labels-idx1-ubyte.gz: \(30,\) labels for 29 records"),
    ],
)
def test_a_broken_file_is_refused(folder, content, said):
    write(folder / "train-images-idx3-ubyte.gz", content)
    with pytest.raises(Refused, match=said):
        FashionMNIST().load()


def test_a_label_beyond_nine_a_cut_file_and_a_bomb(folder, monkeypatch):
    path = folder / "train-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    write(path, idx(np.full(30, 10, np.uint8)))
    with pytest.raises(Refused, match=r"a label outside 0\.\.9"):
        FashionMNIST().load()
    path.write_bytes(whole[:-9])
    with pytest.raises(Refused, match="cannot be read"):
        FashionMNIST().load()
    path.write_bytes(whole)
    monkeypatch.setattr(fashion_mnist, "_MOST", 1000)
    with pytest.raises(Refused, match="unpacks to more than 1000 bytes"):
        FashionMNIST().load()


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")
def test_the_debian_package():
    dataset = FashionMNIST().load()
    assert dataset.bundled and torch.bincount(dataset.split).tolist() == [60000, 0, 10000]
    assert torch.bincount(dataset.records.y).tolist() == [7000] * 10


@pytest.fixture
def numbered(tmp_path):
    """Twenty training images of each class in turn, each of one grey that is its place, and one test image of each."""
    y = np.tile(np.arange(10, dtype=np.uint8), 20)
    for name, n in (("train", 200), ("t10k", 10)):
        x = np.arange(n, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8)
        for kind, data in (("images-idx3", x), ("labels-idx1", y[:n])):
            write(tmp_path / f"{name}-{kind}-ubyte.gz", idx(data))
    return str(tmp_path)


def test_some_classes_are_numbered_in_the_order_in_which_they_are_named(numbered):
    whole, some = (FashionMNIST(path=numbered, classes=classes).load() for classes in ((), (7, 2)))
    assert some.classes == ("sneaker", "pullover")
    assert len(some.records) == 42
    places = (some.records.x[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(torch.tensor([7, 2])[some.records.y], whole.records.y[:200][places])
    assert "classes 7, 2 of 0 to 9 alone" in some.notes


def test_the_first_training_images_of_each_class_and_every_test_image(numbered):
    some = FashionMNIST(path=numbered, classes=(7, 2), per_class=3).load()
    assert torch.equal(torch.bincount(some.records.y[some.split == TRAIN]), torch.tensor([3, 3]))
    assert int((some.split == TEST).sum()) == 2
    assert (some.records.x[some.split == TRAIN][:, 0, 0, 0] * 255).round().tolist() == [2, 7, 12, 17, 22, 27]


def test_the_first_test_images_of_each_class_are_the_same_for_everybody(numbered, tmp_path):
    y = np.tile(np.arange(10, dtype=np.uint8), 3)
    x = np.arange(30, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8)
    for kind, data in (("images-idx3", x), ("labels-idx1", y)):
        write(tmp_path / f"t10k-{kind}-ubyte.gz", idx(data))
    some = FashionMNIST(path=numbered, classes=(7, 2), test_per_class=2).load()
    assert (some.records.x[some.split == TEST][:, 0, 0, 0] * 255).round().tolist() == [2, 7, 12, 17]
    assert int((some.split == TRAIN).sum()) == 40
    assert "the first 2 test images of each class alone" in some.notes
    assert FashionMNIST(test_per_class=2).configuration()["test-per-class"] == 2


def test_without_a_choice_of_records_its_configuration_is_as_before():
    assert FashionMNIST().configuration() == {"kind": "fashion-mnist", "path": None}
    assert FashionMNIST(classes=(1, 2)).configuration() == {"kind": "fashion-mnist", "path": None, "classes": [1, 2]}


@pytest.mark.parametrize(
    "knobs",
    [{"classes": (1,)}, {"classes": (1, 1)}, {"classes": (1, 10)}, {"per_class": -1}, {"test_per_class": 1001}],
    ids=str,
)
def test_classes_and_counts_that_cannot_be_are_refused(knobs):
    with pytest.raises(Refused, match="out of range"):
        FashionMNIST(**knobs)
