"""Words for a missing name, and one patient who holds far more records than others: no person is made of them."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.checks.gap_words import GAPS, names_nobody
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.iid import IID
from consilium.data.sources.image_folder import ImageFolder
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table
from consilium.learn.tasks.single_label import SingleLabel

N = 300
Y = np.arange(N) % 2
X = np.random.default_rng(0).random((N, 3)).astype(np.float32)
MISSING = ["nan", "NaN", "None", "NONE", "NaT", "<NA>", "null", "N/A", "-1", "-1.0", "#REF!", "#NV", "########"]


@pytest.fixture
def stored(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "x.npz", x=X, y=Y, **arrays)
        return NPZ(str(tmp_path / "x.npz"))

    return write


@pytest.fixture
def table(tmp_path):
    pytest.importorskip("pandas", reason="the extra 'tables' is not installed")

    def of(patients, sites=("a",)):
        rows = [f"{X[i, 0]:.4f},{p},{sites[i % len(sites)]},{'no' if Y[i] else 'yes'}" for i, p in enumerate(patients)]
        (tmp_path / "x.csv").write_text("\n".join(["x,p,s,y", *rows]) + "\n")
        return Table(str(tmp_path / "x.csv"), "y", patient="p", site="s")

    return of


def divided(source, partition=None):
    shares = {"public": 0.0, "validation": 0.1, "test": 0.2, "non_members": 0.2}
    return gather(source, partition or IID(), SingleLabel(), sites=2, stream=Stream(0), **shares)


@pytest.mark.parametrize("word", MISSING)
@pytest.mark.parametrize("array", ["units", "keys"])
def test_a_word_for_a_missing_name_is_nobody(stored, word, array):
    names = [word if i % 3 == 2 else f"p{i // 4}" for i in range(N)]
    with pytest.raises(Refused, match=rf"record 2 is named '{word}', which marks a missing name"):
        stored(**{array: np.array(names)}).load()
    split = {"train_images": X, "train_labels": Y, "train_" + array: np.array(names)}
    with pytest.raises(Refused, match="a missing name"):
        NPZ(saved(stored, split)).load()


def saved(stored, arrays):
    path = stored().path
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", [np.int64, np.int8, np.float32, np.float64])
def test_minus_one_is_nobody(stored, kind):
    with pytest.raises(Refused, match="record 1 is named '-1'"):
        stored(units=np.where(np.arange(N) == 1, -1, np.arange(N) % 100).astype(kind)).load()


@pytest.mark.parametrize("word", MISSING)
def test_tables_and_names_of_files_say_the_same(table, tmp_path, word):
    with pytest.raises(Refused, match="missing"):
        table([word if i % 3 == 2 else f"p{i}" for i in range(N)]).load()
    if "/" in word or "<" in word:
        return
    image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    for label, patient in (("a", "p1"), ("b", word)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        image.new("L", (4, 4), 99).save(tmp_path / "pictures" / label / f"x_{patient}.png")
    with pytest.raises(Refused, match="a missing name"):
        ImageFolder(str(tmp_path / "pictures"), units=r"_(.*)\.png").load()


@pytest.mark.parametrize("name", ["Nana", "Noneya", "1", "-10", "-11", "na7", "Null-1", "0"])
def test_names_are_names(name):
    assert not names_nobody(name)


def test_the_list_is_that_of_tables():
    assert all(names_nobody(word) for word in GAPS)


@pytest.mark.parametrize("word", ["unknown", "-", "0", "?"])
def test_one_patient_of_a_third_of_the_records_is_noted(table, stored, word):
    names = [word if i % 3 == 0 else f"P{i}" for i in range(N)]
    for source in (table(names), stored(units=np.array(names))):
        data = divided(source)
        (note,) = data.cautions
        assert "that of record 0, has 100 of the 300 records" in note and "median patient 1:" in note
        assert note in data.notes and "unknown" not in note  # which is published: it names no patient


def test_it_is_the_share_of_a_site(table):
    names = [f"P{i}" for i in range(N)]
    names[1:60:2] = ["x"] * 30  # 30 of the 150 of site b, 10 % of all
    (note,) = divided(table(names, ("a", "b")), ByKey()).cautions
    assert "has 30 of the 150 records of site 'b'" in note


@pytest.mark.parametrize(
    "names",
    [
        [f"P{i // 40}" for i in range(N)],  # everybody has many
        [f"P{max(i, 29)}" for i in range(N)],  # a tenth, and no more
        [f"P{i // 4}" if i > 40 else "x" for i in range(N)],  # 41, and the median 4
    ],
)
def test_patients_who_have_many_records_are_no_word(stored, names):
    notes = divided(stored(units=np.array(names))).cautions
    assert bool(notes) == (names.count("x") > 40)


def test_float16_labels_are_read_without_a_warning(stored, tmp_path):
    np.savez(tmp_path / "y.npz", x=X, y=Y.astype(np.float16))
    assert NPZ(str(tmp_path / "y.npz")).load().records.y.tolist() == Y.tolist()
    for wrong in (0.5, np.inf, np.nan, -1):
        np.savez(tmp_path / "y.npz", x=X, y=np.where(np.arange(N) == 5, wrong, Y).astype(np.float16))
        with pytest.raises(Refused, match="record 5 has the label"):
            NPZ(str(tmp_path / "y.npz")).load()
