"""Gaps in a table: what a study puts in their place, what it may not, and that every one of them is counted."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.data.sources.table import Table

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")

CSV = """age,chol,thal,smoker,hospital,ill
20,240,fixed,yes,north,no
40,,normal,no,south,yes
60,0,,yes,north,no
80,200,?,,south,yes
"""
KNOBS = {
    "label": "ill",
    "site": "hospital",
    "ranges": (("age", 0.0, 100.0), ("chol", 100.0, 600.0)),
    "categories": (("thal", "normal", "fixed"), ("smoker", "no", "yes"), ("ill", "no", "yes")),
    "missing": (("chol", "0"), "?"),
}
FILL = {"chol": 225, "thal": "unknown", "smoker": "no"}


@pytest.fixture
def csv(tmp_path):
    def write(text=CSV):
        (tmp_path / "mine.csv").write_text(text)
        return str(tmp_path / "mine.csv")

    return write


def refusal(path, **knobs):
    with pytest.raises(Refused) as caught:
        Table(path, **{**KNOBS, **knobs}).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_constants_stand_in_the_gaps_and_nothing_else_changes(csv):
    data = Table(csv(), **KNOBS, fill=FILL, mark_missing=("chol",)).load()
    oracle = [
        # age, chol, chol missing, thal (normal, fixed, unknown), smoker (no, yes)
        [0.2, 0.28, 0, 0, 1, 0, 0, 1],
        [0.4, 0.25, 1, 1, 0, 0, 1, 0],
        [0.6, 0.25, 1, 0, 0, 1, 0, 1],
        [0.8, 0.20, 0, 0, 0, 1, 1, 0],
    ]
    assert torch.allclose(data.records.x, torch.tensor(oracle))
    assert not data.fitted_on_private and data.records.y.tolist() == [0, 1, 0, 1]
    assert [column.name for column in data.inputs.columns] == ["age", "chol", "chol missing", "thal", "smoker"]
    assert ("missing values", "chol = 225; smoker = no; thal = unknown") in data.inputs.preparation


def test_every_gap_that_is_filled_is_counted_by_site_and_column(csv):
    data = Table(csv(), **KNOBS, fill=FILL).load()
    assert [one.line() for one in data.omitted] == [
        "2 values missing, and filled by constants (site north): 'chol' (1), 'thal' (1)",
        "3 values missing, and filled by constants (site south): 'chol' (1), 'thal' (1), 'smoker' (1)",
    ]


def test_rows_with_another_gap_are_left_out_or_refused_as_before(csv):
    part = {"chol": 225, "thal": "unknown"}
    data = Table(csv(), **KNOBS, fill=part, drop_missing=True).load()
    assert len(data.records) == 3 and data.omitted[0].line() == "1 rows with a gap (site south): 'smoker' (1)"
    assert "values are missing in 'smoker' (1)" in refusal(csv(), fill=part)


def test_a_refusal_has_the_names_of_the_columns_to_paste_and_no_value(csv):
    said = refusal(csv())
    assert "values are missing in 'chol' (2), 'thal' (2), 'smoker' (1)" in said
    assert 'fill = { chol = NUMBER, thal = "unknown", smoker = "unknown" }' in said


def test_a_word_is_a_gap_in_one_column_only(csv):
    text = CSV.replace("hospital", "fbs,hospital").replace(",north", ",0,north").replace(",south", ",1,south")
    categories = (*KNOBS["categories"], ("fbs", "0", "1"))
    data = Table(csv(text), **{**KNOBS, "categories": categories}, fill=FILL).load()
    assert data.records.x[:, -2].tolist() == [1, 0, 1, 0]  # fbs = 0 is a value
    assert "names 'x', which no cell contains" in refusal(csv(text), missing=(("chol", "x"),), categories=categories)
    assert "there is no column 'cho'" in refusal(csv(text), missing=(("cho", "0"), "?"), categories=categories)


def test_numbers_and_words_that_are_not_declared_are_filled_too(csv):
    knobs = {name: value for name, value in KNOBS.items() if name not in ("ranges", "categories")}
    data = Table(csv(), **knobs, fill={**FILL, "chol": 220}).load()
    assert data.fitted_on_private
    assert data.records.x[:, 1].tolist() == pytest.approx([1.0, 0.5, 0.5, 0.0])
    assert data.inputs.columns[2].words == ("fixed", "normal", "unknown")
    with pytest.raises(Refused, match="'low' is to stand in column 'chol', which holds numbers"):
        Table(csv(), **knobs, fill={**FILL, "chol": "low"}).load()


def test_parquet_and_csv_are_filled_alike(csv, tmp_path):
    frame = pd.read_csv(csv())
    frame["thal"] = frame["thal"].replace("?", None)
    frame.to_parquet(tmp_path / "mine.parquet")
    knobs = {**KNOBS, "missing": (("chol", "0"),)}
    typed = Table(str(tmp_path / "mine.parquet"), **knobs, fill=FILL).load()
    assert torch.equal(typed.records.x, Table(csv(), **KNOBS, fill=FILL).load().records.x)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"fill": {"chol": 700}}, "fill.chol: 700 is outside the declared range of column 'chol', 100 to 600"),
        ({"fill": {"chol": "low"}}, "fill.chol: 'low' is no number, and column 'chol' has the range 100 to 600"),
        ({"fill": {"thal": " "}}, "fill.thal: ' ' has no visible character"),
        ({"fill": {"chol": float("nan")}}, "fill.chol: nan is no number that a record can have"),
        ({"fill": {"chol": float("inf")}, "ranges": ()}, "fill.chol: inf is no number"),
        ({"fill": {**FILL, "smoker": "Yes"}}, "'Yes' is to stand in column 'smoker', and 'yes' is among its declared"),
        ({"fill": {**FILL, "smoker": True}}, "'True' is to stand in column 'smoker', and 'yes' is among"),
        (
            {"fill": {**FILL, "chol": True}, "ranges": ()},
            "true is to stand in column 'chol', which holds other numbers",
        ),
        ({"fill": {"hospital": "x"}}, "column 'hospital' is the site, and is not filled"),
        ({"fill": {"ill": "no"}}, "column 'ill' is the label, and is not filled"),
        ({"fill": {"cholesterol": 240}}, "fill: there is no column 'cholesterol'. Did you mean 'chol'"),
        ({"fill": FILL, "mark_missing": ("age",)}, "mark-missing: column 'age' is not filled"),
        ({"missing": (("chol",),)}, "missing: ('chol',) is out of range. Use a word, or [column, word, ...]"),
    ],
)
def test_a_constant_that_cannot_stand_there_is_refused(csv, knobs, said):
    assert said in refusal(csv(), **knobs)


def test_the_mark_of_a_gap_needs_a_name_of_its_own(csv):
    text = CSV.replace("smoker", "chol missing")
    categories = (("thal", "normal", "fixed"), ("chol missing", "no", "yes"), ("ill", "no", "yes"))
    said = refusal(csv(text), categories=categories, fill={"chol": 225, "thal": "unknown", "chol missing": "no"},
                   mark_missing=("chol",))  # fmt: skip
    assert "there is a column 'chol missing' already" in said


def test_a_constant_for_a_column_without_gaps_is_noted(csv):
    assert Table(csv(), **KNOBS, fill=FILL).load().cautions == ()
    (caution,) = Table(csv(), **KNOBS, fill={**FILL, "age": 50}).load().cautions
    assert "column 'age' has a constant for its gaps (fill), and no gap" in caution


def test_true_stands_for_1_in_a_column_of_flags(csv):
    text = CSV.replace("smoker", "flag").replace("yes,n", "true,n").replace("no,s", "false,s")
    knobs = {**KNOBS, "categories": (KNOBS["categories"][0], KNOBS["categories"][2])}
    data = Table(csv(text), **knobs, fill={"chol": 225, "thal": "unknown", "flag": True}).load()
    assert data.records.x[:, -1].tolist() == [1, 0, 1, 1]
