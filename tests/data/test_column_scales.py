"""One column in two units, in a range far too wide, or with a mark for "none": noted; what only differs is not."""

import gzip
from dataclasses import replace

import numpy as np
import pytest
import torch

from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.data.checks.column_scales import check_columns
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.sources.breast_cancer import BreastCancer
from consilium.data.sources.digits import Digits
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table
from consilium.learn.tasks.single_label import SingleLabel

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 120
RNG = np.random.default_rng(0)
AGE, GLUCOSE = RNG.uniform(20, 90, N).round(1), RNG.normal(100, 20, N).round(2)
SITE = np.array(["north", "south"])[np.arange(N) % 2]
SOUTH = SITE == "south"
ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)


@pytest.fixture
def table(tmp_path):
    def of(glucose, **knobs):
        y = np.arange(N) // 2 % 2
        rows = [f"{a},{g},{s},{k}" for a, g, s, k in zip(AGE, glucose, SITE, y, strict=True)]
        (tmp_path / "x.csv").write_text("\n".join(["age,glucose,site,y", *rows]) + "\n")
        return Table(str(tmp_path / "x.csv"), "y", site="site", **knobs)

    return of


def notes(source):
    return list(check_columns(source.load()))


@pytest.mark.parametrize("factor", [1 / 18, 18, 100, 0.01])
def test_one_column_of_one_site_in_another_unit_is_noted(table, factor):
    (note,) = notes(table(np.where(SOUTH, GLUCOSE * factor, GLUCOSE).round(5)))
    assert note.startswith("values of column 'glucose' of site ") and note.endswith("are they in one unit?")
    assert "'north'" in note and "'south'" in note and "'age'" not in note


def test_the_note_is_printed_and_stands_in_the_evidence(table):
    source = table(np.where(SOUTH, GLUCOSE / 18, GLUCOSE).round(5))
    shares = {"public": 0.0, "validation": 0.1, "test": 0.2, "non_members": 0.2}
    data = gather(source, ByKey(), SingleLabel(), sites=2, stream=Stream(0), **shares)
    (note,) = data.cautions
    assert "column 'glucose'" in note and note in data.notes


def test_sites_that_differ_are_not(table):
    assert not notes(table(GLUCOSE))
    assert not notes(table(np.where(SOUTH, GLUCOSE + 30, GLUCOSE).round(2))), "sicker, in the same unit"
    assert not notes(table(np.where(SOUTH, GLUCOSE + 300, GLUCOSE).round(2))), "another device, spread alike"
    assert not notes(table(np.where(SOUTH, 0, GLUCOSE))), "never measured at one site"


def test_a_few_records_are_chance(tmp_path):
    x = np.stack([AGE / 100, np.where(np.arange(N) < N - 19, GLUCOSE, GLUCOSE / 18) / 1000], 1).astype(np.float32)
    keys = np.where(np.arange(N) < N - 19, "a", "b")
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(N) % 2, keys=keys)
    assert not notes(NPZ(str(tmp_path / "x.npz")))


@pytest.mark.parametrize("named", [True, False])
def test_one_column_of_the_test_split_is_noted(tmp_path, named):
    x = np.stack([AGE / 100, GLUCOSE / 1000], 1).astype(np.float32)
    test = x[80:] * np.array([1, 1 / 18], np.float32)
    parts = {
        "train_images": x[:80],
        "train_labels": np.arange(80) % 2,
        "test_images": test,
        "test_labels": np.arange(40) % 2,
    }
    np.savez(tmp_path / "x.npz", **parts, **({"columns": np.array(["age", "glucose"])} if named else {}))
    (note,) = notes(NPZ(str(tmp_path / "x.npz")))
    name = "column 'glucose'" if named else "feature 1"
    assert note.startswith(f"values of {name} of the test split lie below")


def test_a_declared_range_far_too_wide_is_noted(table):
    (note,) = notes(table(GLUCOSE, ranges=(("glucose", 0.0, 1e6), ("age", 0.0, 110.0))))
    assert note.startswith("values of column 'glucose' reach over 0.0001") and "hardly told apart" in note
    assert not notes(table(GLUCOSE, ranges=(("glucose", 0.0, 1000.0), ("age", 0.0, 110.0))))


@pytest.mark.parametrize("mark", [-999, 9999, -9999.0])
@pytest.mark.parametrize("every", [10, 60])
def test_a_mark_for_no_value_is_noted(table, mark, every):
    values = np.where(np.arange(N) % every == 3, mark, GLUCOSE)
    (note,) = notes(table(values))
    assert f"value of column 'glucose' ({N // every} of {N} records) lies far outside" in note
    assert str(mark) not in note.replace("(-999)", ""), "no value of a record is said"
    assert not notes(table(values, ranges=(("glucose", 0.0, 300.0),))), "a declared range clips it, and that is counted"


def test_many_columns_are_counted(tmp_path):
    x = RNG.random((N, 9)).astype(np.float32) / 2
    x[SOUTH] /= 100
    x[~SOUTH] += 0.3
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(N) // 2 % 2, keys=SITE)
    told = notes(NPZ(str(tmp_path / "x.npz")))
    assert len(told) == 4 and told[-1] == "the same of 6 more columns as of the last 3"


@pytest.mark.parametrize("source", [BreastCancer(), Digits()], ids=["breast-cancer", "digits"])
def test_bundled_data_raise_no_alarm(source):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    assert not notes(source)


def test_real_tables_raise_no_alarm(real, tmp_path):
    adult, heart = real / "adult.data.gz", real / "heart-disease.csv"
    if not adult.is_file() or not heart.is_file():
        pytest.skip("the tables are not in CONSILIUM_DATA")
    (tmp_path / "adult.csv").write_bytes(gzip.decompress(adult.read_bytes()))
    gaps = {"missing": ("?",), "drop_missing": True}
    for site in ("race", "education"):
        assert not notes(Table(str(tmp_path / "adult.csv"), "income", columns=ADULT, site=site, **gaps))
    thin = ("slope", "ca", "thal", "chol", "fbs")
    assert not notes(Table(str(heart), "num", site="hospital", drop=thin, drop_missing=True))
    assert not notes(Table(str(heart), "num", drop=thin, drop_missing=True))


def test_pictures_and_words_have_no_scale(table):
    data = table(GLUCOSE).load()
    x = torch.rand(len(data.records), 1, 4, 4)
    pictures = replace(data, records=Records.of(x, data.records.y))
    assert not list(check_columns(pictures))


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ((-9999, 9999), "the least and the greatest values of column 'glucose' (20 of 120 records)"),
        ((9997, 9998, 9999), "the 3 greatest values of column 'glucose' (20 of 120 records)"),
        ((-99, -98), "the 2 least values of column 'glucose' (20 of 120 records)"),
        ((-999, 9998, 9999), "the least and the 2 greatest values"),
    ],
)
def test_several_marks_for_none_at_one_end_or_at_both_are_noted(table, marks, said):
    glucose = np.round(5 + (GLUCOSE - GLUCOSE.min()) / 10, 2)
    places = np.arange(0, N, 6)
    glucose[places] = np.resize(marks, len(places))
    (note,) = notes(table(glucose))
    assert note.startswith(said) and "all others reach over" in note and "in missing" in note


def test_long_tails_are_no_marks(table):
    assert not notes(table(np.exp(RNG.normal(0, 1.5, N)).round(4)))
    assert not notes(table(np.resize([1, 2, 40, 90], N)))
