"""Parts of a data set that were scaled once more than the others, and bytes that hold no 0 to 255."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.sources.image_folder import ImageFolder
from consilium.data.sources.npz import NPZ
from consilium.learn.tasks.single_label import SingleLabel

N = 60
Y = np.arange(N) % 2
RNG = np.random.default_rng(0)
X = RNG.random((N, 6, 6)).astype(np.float32)


@pytest.fixture
def stored(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "x.npz", **arrays)
        return NPZ(str(tmp_path / "x.npz"))

    return write


def divided(source, sites=2):
    shares = {"public": 0.0, "validation": 0.1, "test": 0.2, "non_members": 0.2}
    return gather(source, ByKey(), SingleLabel(), sites=sites, stream=Stream(0), **shares)


@pytest.mark.parametrize("most", [1, 3, 16])
@pytest.mark.parametrize("shape", [(N, 6, 6), (N, 10)])
def test_bytes_that_are_no_pictures_are_refused(stored, most, shape):
    x = RNG.integers(0, most + 1, shape, dtype=np.uint8)
    x.flat[0] = most
    with pytest.raises(Refused, match=rf"bytes run from 0 to {most}: divided by 255") as refused:
        stored(x=x, y=Y).load()
    assert f"x * {255 // most}" in refused.value.remedy
    right = stored(x=x * np.uint8(255 // most), y=Y).load().records.x
    assert float(right.max()) == pytest.approx(255 // most * most / 255)


def test_dark_pictures_and_dark_splits_of_bytes_are_read(stored):
    x = RNG.integers(0, 18, (N, 6, 6), dtype=np.uint8)
    x[0, 0, 0] = 17
    assert float(stored(x=x, y=Y).load().records.x.max()) == pytest.approx(17 / 255)
    assert len(stored(x=x[:4] // 17, y=Y[:4]).load().records) == 4  # so few may be anything


def test_a_folder_of_masks_is_refused(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    for k in range(10):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        image.fromarray(RNG.integers(0, 2, (9, 9), dtype=np.uint8)).save(tmp_path / "ab"[k % 2] / f"{k}.png")
    with pytest.raises(Refused, match="bytes run from 0 to 1"):
        ImageFolder(str(tmp_path), size=9).load()


def split(test):
    return {"train_images": X[:40], "train_labels": Y[:40], "test_images": test, "test_labels": Y[40:]}


@pytest.mark.parametrize("factor", [1 / 255, 1 / 17])
def test_a_split_scaled_once_more_is_refused(stored, factor):
    with pytest.raises(Refused, match=r"inputs of the test split reach over 0\.0.*scaled once more"):
        divided(stored(**split(X[40:] * np.float32(factor))))


def test_a_training_split_scaled_once_more_is_refused(stored):
    parts = split(X[40:])
    parts["train_images"] = parts["train_images"] / 255
    with pytest.raises(Refused, match=r"those of the train split over 0\.0039"):
        divided(stored(**parts))


def test_a_somewhat_darker_split_is_not(stored):
    keys = {"train_keys": Y[:40], "test_keys": Y[40:]}
    assert not divided(stored(**split(X[40:] / 15), **keys)).cautions


def test_a_site_scaled_once_more_is_noted(stored):
    keys = np.array(["north", "south"])[np.arange(N) // 2 % 2]
    x = np.where((keys == "south")[:, None, None], X / 255, X).astype(np.float32)
    data = divided(stored(x=x, y=Y, keys=keys))
    (note,) = data.cautions
    assert note.startswith("inputs of site 'south' reach over 0.0039") and note in data.notes
    assert not divided(stored(x=X, y=Y, keys=keys)).cautions


def test_data_scaled_once_more_as_a_whole_are_noted(stored):
    (note,) = divided(stored(x=X / 255, y=Y, keys=Y), 1).cautions
    assert note.startswith("inputs reach over 0.0039") and "scaled once more" in note
