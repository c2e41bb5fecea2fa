"""Tables: what is a feature, what is public, and what is refused."""

import re
import sys
from pathlib import Path

import pytest
import torch

from consilium.core.errors import MissingExtra, Refused
from consilium.data.sources.table import Table

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")

CSV = """name, age, sex, hospital, person, ill
Ann, 20, F, north, 7, yes
Bob, 40, M, south, 8, no
Ann, 30, F, north, 7, no
Eve, 60, F, south, 9, yes
"""
ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
WORDS = {"workclass": 7, "education": 16, "status": 7, "job": 14, "relation": 6, "race": 5, "sex": 2, "country": 41}


@pytest.fixture
def csv(tmp_path):
    def write(text=CSV, name="mine.csv"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def refusal(path, label="ill", **knobs):
    with pytest.raises(Refused) as caught:
        Table(path, label=label, **knobs).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_label_site_patient_and_features(csv):
    dataset = Table(csv(), label="ill", site="hospital", patient="person", drop=("name",)).load()
    assert dataset.classes == ("no", "yes") and dataset.records.y.tolist() == [1, 0, 0, 1]
    assert dataset.key_names == ("north", "south") and dataset.keys.tolist() == [0, 1, 0, 1]
    assert dataset.records.units.tolist() == [0, 1, 0, 2]
    assert torch.equal(dataset.records.x, torch.tensor([[0, 1, 0], [0.5, 0, 1], [0.25, 1, 0], [1, 1, 0]]))


def test_what_is_read_from_the_records_is_said_not_to_be_public(csv):
    private = Table(csv(), label="ill", drop=("name", "hospital", "person")).load()
    assert private.fitted_on_private
    assert any("of age, sex were read from the records: they are not public" in note for note in private.notes)
    public = Table(
        csv(),
        label="ill",
        drop=("name", "hospital", "person"),
        ranges=(("age", 0.0, 50.0),),
        categories=(("sex", "M", "F", "X"), ("ill", "yes", "no")),
    ).load()
    assert not public.fitted_on_private and len(public.notes) == 1
    assert public.classes == ("yes", "no") and public.records.y.tolist() == [0, 1, 1, 0]
    oracle = [[0.4, 0, 1, 0], [0.8, 1, 0, 0], [0.6, 0, 1, 0], [1.0, 0, 1, 0]]
    assert torch.allclose(public.records.x, torch.tensor(oracle))


def test_one_column_read_from_the_records_is_enough(csv):
    knobs = {"label": "ill", "drop": ("name", "hospital", "person")}
    assert Table(csv(), ranges=(("age", 0.0, 99.0),), **knobs).load().fitted_on_private
    assert Table(csv(), categories=(("sex", "F", "M"),), **knobs).load().fitted_on_private


def test_parquet_gzip_and_a_file_without_header_give_the_same(csv, tmp_path):
    plain = Table(csv(), label="ill", drop=("name", "person")).load()
    frame = pd.read_csv(csv(), skipinitialspace=True)
    frame.to_parquet(tmp_path / "mine.parquet")
    frame.to_csv(tmp_path / "mine.csv.gz", index=False)
    csv(CSV.split("\n", 1)[1], "bare.csv")
    names = tuple(frame.columns)
    for name, knobs in (("mine.parquet", {}), ("mine.csv.gz", {}), ("bare.csv", {"columns": names})):
        other = Table(str(tmp_path / name), label="ill", drop=("name", "person"), **knobs).load()
        assert torch.equal(plain.records.x, other.records.x) and torch.equal(plain.records.y, other.records.y)


def test_gaps_are_refused_by_column_or_left_out_when_asked(csv):
    path = csv(CSV.replace("20", "").replace("40", "?").replace("Eve, 60, F", "Eve, 60, "))
    assert "values are missing in 'age' (1), 'sex' (1)" in refusal(path, drop=("name",))
    said = refusal(path, drop=("name",), missing=("?",))
    assert "values are missing in 'age' (2), 'sex' (1). Set drop-missing = true" in said
    knobs = {"label": "ill", "drop": ("name", "person"), "missing": ("?",), "drop_missing": True}
    assert "class 'yes' is lost whole: each of its 2 is one of the rows with a gap" in refusal(path, **knobs)
    csv(Path(path).read_text() + "Zoe, 70, F, south, 9, yes\n")
    dataset = Table(path, **knobs).load()
    assert len(dataset.records) == 2
    assert [one.line() for one in dataset.omitted] == ["3 rows with a gap: 'age' (2), 'sex' (1)"]
    assert "no complete row is left" in refusal(
        csv(CSV.replace(", yes", ",").replace(", no\n", ",\n")), drop_missing=True
    )


def test_gaps_in_a_dropped_column_do_not_matter(csv):
    assert len(Table(csv(CSV.replace("Ann", "")), label="ill", drop=("name", "person")).load().records) == 4


def test_numbers_can_be_declared_words(csv):
    path = csv(CSV.replace(", 9,", ", 7,"))
    dataset = Table(path, label="person", drop=("name",), categories=(("age", "20", "30", "40", "60"),)).load()
    assert dataset.records.x[:, :4].tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert dataset.classes == ("7", "8")


def test_a_column_of_one_value_is_zero(csv):
    assert Table(csv("a,b,y\n5,1,0\n5,2,1\n"), label="y").load().records.x.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"label": "il"}, "label: there is no column 'il'. Did you mean 'ill'"),
        ({"site": "Hospital"}, "site: there is no column 'Hospital'. Did you mean 'hospital'"),
        ({"patient": "nobody"}, "patient: there is no column"),
        ({"drop": ("nome",)}, "drop: there is no column 'nome'"),
        ({"ranges": (("weight", 0.0, 1.0),)}, "ranges: there is no column"),
        ({"ranges": (("sex", 0.0, 1.0),)}, "ranges: column 'sex' does not hold numbers"),
        ({"ranges": (("age", 0.0, 1.0),)}, "most values of column 'age' are outside its declared range 0 to 1"),
        ({"categories": (("sex", "m", "f"),)}, "holds 'F', which is not among its declared categories"),
        ({"drop": ("name", "age", "sex", "hospital", "person")}, "no column is left as a feature"),
    ],
)
def test_columns_that_do_not_fit(csv, knobs, said):
    assert said in refusal(csv(), **{"label": "ill", "drop": ("name", "person"), **knobs})


@pytest.mark.parametrize(
    "knobs",
    [{"ranges": (("age", 2.0, 1.0),)}, {"ranges": (("age", 0.0, float("inf")),)}, {"categories": (("sex", "F"),)}],
)
def test_knobs_out_of_range(knobs):
    with pytest.raises(Refused, match="out of range"):
        Table("x.csv", label="y", **knobs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read as a table"),
        ("a,y\n1,0\n1,0,0,0\n", "cannot be read as a table"),
        ("a,y\ninf,0\n1,1\n", "column 'a' holds infinite values"),
        ("a,y\n", "no complete row is left"),
        ("\0\0\0", "cannot be read as a table|no complete row|there is no column"),
    ],
)
def test_files_that_are_no_table(csv, text, said):
    assert re.search(said, refusal(csv(text), label="y"))


def test_bytes_that_are_no_text_and_no_parquet(tmp_path):
    for name in ("x.csv", "x.parquet"):
        (tmp_path / name).write_bytes(bytes(range(256)) * 4)
        assert "cannot be read as a table" in refusal(str(tmp_path / name))


def test_a_column_of_names_looks_like_an_identifier(csv):
    text = "who,a,y\n" + "".join(f"p{k},{k},{k % 2}\n" for k in range(200))
    assert "column 'who' holds 200 different words: it looks like an identifier" in refusal(csv(text), label="y")


def test_without_pandas_the_extra_is_named(csv, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install consilium\[tables\]"):
        Table(csv(), label="ill").load()


def test_adult(real):
    path = real / "adult.data.gz"
    if not path.is_file():
        pytest.skip("adult.data.gz is not in CONSILIUM_DATA")
    dataset = Table(
        str(path), label="income", columns=ADULT, drop=("fnlwgt",), missing=("?",), drop_missing=True
    ).load()
    assert len(dataset.records) == 32561 - 2399
    assert dataset.classes == ("<=50K", ">50K")
    assert dataset.records.x.shape[1] == 5 + sum(WORDS.values())
    assert dataset.records.x[:, 1:8].sum(dim=1).eq(1).all()  # workclass: one word each, none with a blank in front
