"""Tables that others export: what was read wrong in silence is read right, or refused by row, column and value."""

import datetime
import decimal
import unicodedata

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.data.columns.types import check_types
from consilium.data.sources.table import Table
from consilium.study.spec.toml_binding import value

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 40
ROWS = [f"{20 + i},{'FM'[i % 2]},{'no' if i % 3 else 'yes'}" for i in range(N)]


@pytest.fixture
def write(tmp_path):
    def text(lines, name="mine.csv"):
        (tmp_path / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
        return str(tmp_path / name)

    return text


@pytest.fixture
def column(write):
    """A table with the column ``v``: its values come round again and again."""

    def of(values, knob="v"):
        words = [values[i % len(values)] for i in range(N)]
        quoted = [f'"{word}"' if "," in word else word for word in words]
        return write([f"age,{knob},y", *(f"{20 + i},{word},{i % 2}" for i, word in enumerate(quoted))])

    return of


def refusal(path, label="y", **knobs):
    with pytest.raises(Refused) as caught:
        Table(path, label, **knobs).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('25,"F,no', "row 6 (line 7): a quote opens in column 'sex' and is not closed on that line"),
        ('"25,F,no', "row 6 (line 7): a quote opens in column 'age' and is not closed"),
        ('25,F,"no', "row 6 (line 7): a quote opens in column 'ill' and is not closed on that line. Mend the quote"),
        ('25,"F\nF",no', "row 6 (line 7): a quote opens in column 'sex'"),
        ("25,F\0,no", "line 7 holds a NUL byte"),
        ("25,F", "its first line has 3 fields, row 6 (line 7) has 2. Mend that line"),
        ("25,F,no,9", "its first line has 3 fields, row 6 (line 7) has 4. Mend that line"),
        ("age,sex,ill", "row 6 holds the names of the columns"),
        (" Age , SEX,ill", "row 6 holds the names of the columns"),
    ],
)
@pytest.mark.parametrize("later", ['45,"F",no', "45,F,no"])
def test_a_broken_line_is_refused_by_its_number(write, line, said, later):
    rows = [*ROWS[:5], line, *ROWS[6:25], later, *ROWS[26:]]
    assert said in refusal(write(["age,sex,ill", *rows]), "ill")


def test_the_last_line_may_lack_its_break_and_no_quote(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("age,sex,ill\r\n" + "\r\n".join(ROWS))
    assert len(Table(str(path), "ill").load().records) == N
    path.write_text("\n".join(["age,sex,ill", *ROWS, '60,F,"no']))
    assert f"row {N + 1} (line {N + 2}): a quote opens in column 'ill'" in refusal(str(path), "ill")


def test_what_is_well_quoted_is_read(write):
    path = write(['"age", "sex, or none","ill"', "", *(f'"{i}", "F ""{"ab"[i % 2]}"", x" ,{i % 2}' for i in range(N))])
    dataset = Table(path, "ill").load()
    assert dataset.inputs.columns[1].words == ('F "a", x', 'F "b", x') and len(dataset.records) == N
    path = write([f'{i}   "F {"ab"[i % 2]}"\t{i % 2} ' for i in range(N)])
    blank = Table(path, "ill", separator=" ", columns=("age", "sex", "ill")).load()
    assert blank.inputs.columns[1].words == ("F a", "F b")


def test_names_given_for_a_file_with_a_header(write):
    said = refusal(write(["v,w,y", *(f"{'ab'[i % 2]},c,{'de'[i % 2]}" for i in range(N))]), columns=("v", "w", "y"))
    assert said == ("row 1 holds the names of the columns. Take that line out, or leave out the knob columns.")


def test_lines_above_the_header(write):
    said = refusal(write(["Export of 3 March", "age,sex,ill", *ROWS]), "ill")
    assert "its first line has 1 field, row 1 (line 2) has 3. Is there a title above the header?" in said
    said = refusal(write(["sep=;", *(row.replace(",", ";") for row in ("age,sex,ill", *ROWS))]), "ill")
    assert "begins with 'sep=;', a line for Excel" in said and 'set separator = ";"' in said


@pytest.mark.parametrize(
    "spellings",
    [
        ("ill", "ILL", "well"),
        ("TRUE", "True", "False"),
        ("1", "1.0", "0"),
        ("New York", "New  York", "Rome"),
        ("New York", "New\u00a0York", "Rome"),
        ("well", "we\u200bll", "ill"),
        ("\uff21", "A", "b"),
    ],
)
@pytest.mark.parametrize("knob", ["v", "label"])
def test_two_spellings_of_one_category_are_refused_or_declared(column, spellings, knob):
    words = (*spellings, "b1", "b2", "b3", "b4")  # else 1 and TRUE are numbers, however they are written
    path = column(words, knob)
    first, second, *_ = spellings
    knobs = {} if knob == "v" else {"label": "label"}
    said = refusal(path, **knobs)
    assert f"categories: column {knob!r} holds {first!r} and, in row 2, {second!r}. Is it one category?" in said
    declared = Table(path, **{"label": "y", **knobs}, categories=((knob, *words),)).load()
    assert words in (declared.classes, declared.inputs.columns[1].words)


@pytest.mark.parametrize("other", ["\u00a0café", "cafe\u0301", "\ufeffcafé\u200b", "café\u2003", "\u200ecafé"])
def test_what_cannot_be_seen_makes_no_category(column, tmp_path, other):
    path = column(["café", other, "bar"])
    for declared in ("café", unicodedata.normalize("NFD", "café")):
        words = Table(path, "y", categories=(("v", "bar", declared),)).load().inputs.columns[1].words
        assert words == ("bar", "café")
    assert Table(path, "y").load().inputs.columns[1].words == ("bar", "café")
    pd.DataFrame({"v": ["café", other, "bar"] * 4, "y": [0, 1] * 6}).to_parquet(tmp_path / "m.parquet")
    assert Table(str(tmp_path / "m.parquet"), "y").load().inputs.columns[0].words == ("bar", "café")
    named = Table(column(["a", "b"], other), "café", drop=("y",)).load()
    assert named.classes == ("a", "b")


def test_minus_one_and_minus_one_point_nought_are_one_gap(column):
    path = column(["-9", "-9.0", "3", "4", "5.5"])
    dataset = Table(path, "y", missing=("-9",), drop_missing=True).load()
    assert len(dataset.records) == N * 3 // 5 and [one.count for one in dataset.omitted] == [N * 2 // 5]


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (("93%", "95%", "97%"), "Take the mark or the unit out of the cell, or declare its categories"),
        (("5mg", "10mg", "20mg"), "Take the mark or the unit out"),
        (("5 mg/dl", "7 mg/dl", "none"), "Take the mark or the unit out"),
        (("$5", "$7"), "Take the mark or the unit out"),
        (("1,5", "2,5", "3,0"), 'set decimal = ","'),
        (("\u22123", "\u22125", "2", "4"), "Write its minus sign as '-'"),
        (("2021-03-04", "2021-03-05", "2021-04-01"), "Turn dates into a number such as an age, or drop the column"),
        (("03/04/2021", "14/04/2021"), "Turn dates into a number"),
        (("4.3.2021 10:30", "5.3.2021 11:00"), "Turn dates into a number"),
        (("2021-03-04T10:00:00Z", "2021-03-05T10:00:00Z"), "Turn dates into a number"),
        (("4 Mar 2021", "March 2021", "Mar 5, 2021"), "Turn dates into a number"),
        (("10:30", "11:45"), "Turn dates into a number"),
        (("120/80", "130/85", "110/70"), "Store each of the two numbers in a column of its own"),
        (("'45", "'46", "'47"), "Take the apostrophe out, with which spreadsheets mark text"),
        (("\u201945", "\u201946"), "Take the apostrophe out"),
        (("(5)", "6", "7"), "Write a negative number with '-' and without brackets"),
        (("(5)", "(6.5)", "($1.200)"), "Write a negative number with '-' and without brackets"),
        (("5-", "6-", "7.5-"), "Write its minus sign in front of the number"),
        (("5-", "6", "7.5"), "Write its minus sign in front of the number"),
        (("12.5D2", "1.5D2", "2.5D-1"), "Write it with a point and an e"),
        (("1D+02", "2D+03"), "Write it with a point and an e"),
        (("1,5E+02", "2,5E+03"), "Write it with a point and an e"),
        (("1 234", "2 345"), "Take the blanks between its digits out"),
        (("1\u00a0234", "2\u00a0345"), "Take the blanks between its digits out"),
        (("1\u202f234", "2\u2009345"), "Take the blanks between its digits out"),
        (("1\u200b234", "2\u200b345"), "Take the blanks between its digits out"),
    ],
)
def test_a_few_marked_numbers_and_dates_are_no_categories(column, values, remedy):
    said = refusal(column(values))
    assert f"column 'v' does not hold numbers: row 1 has {values[0]!r}" in said and remedy in said
    words = Table(column(values), "y", categories=(("v", *values),)).load().records.x[:, 1:]
    assert words.shape == (N, len(values)) and words.sum(1).eq(1).all()


@pytest.mark.parametrize(
    "values",
    [
        ("<5", "5-10", ">10"),
        ("<5%", "5-10%", ">=10%"),
        ("1st", "2nd", "3rd"),
        ("1A", "2A", "1B"),
        ("1a", "2a", "1b"),
        ("1 Never", "2 Often", "3 Always"),
        ("Less than 25", "25 - 45", "Greater than 45"),
        ("T1", "N0", "Ward 12"),
        ("3D", "2D", "1D2"),
        ("A-", "A", "B-"),
        ("5+", "5-9", "0-4"),
        ("April", "May", "June"),
    ],
)
def test_words_with_figures_are_categories(column, values):
    assert Table(column(values), "y").load().records.x.shape == (N, 1 + len(values))


ROLES = {"label": "y", "site": "ward", "patient": "who"}


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"ranges": (("age", 0.0, 90.0), ("age", 0.0, 99.0))}, "ranges: column 'age' is named twice"),
        ({"categories": (("v", "a", "b"), ("v", "a", "c"))}, "categories: column 'v' is named twice"),
        ({"drop": ("v", "v")}, "drop: column 'v' is named twice"),
        ({"ranges": (("v", 0.0, 9.0),), "categories": (("v", "a", "b"),)}, "ranges: column 'v' has categories"),
        ({"ranges": (("v", 0.0, 9.0),), "drop": ("v",)}, "ranges: column 'v' is dropped"),
        ({"categories": (("v", "a", "b"),), "drop": ("v",)}, "categories: column 'v' is dropped"),
        ({"ranges": (("y", 0.0, 9.0),)}, "ranges: column 'y' is the label"),
        ({"ranges": (("who", 0.0, 9.0),)}, "ranges: column 'who' is the patient"),
        ({"categories": (("ward", "a", "b"),)}, "categories: column 'ward' is the site"),
        ({"categories": (("who", "a", "b"),)}, "categories: column 'who' is the patient"),
        ({"drop": ("y",)}, "drop: column 'y' is the label"),
        ({"drop": ("ward",)}, "drop: column 'ward' is the site"),
        ({"site": "y"}, "site: it names 'y', as label does"),
        ({"patient": "ward"}, "patient: it names 'ward', as site does"),
        ({"path": "x.parquet", "columns": ("a",)}, "columns: a Parquet file stores its columns' types"),
        ({"path": "x.pq", "separator": ";"}, "separator: a Parquet file stores its columns' types"),
    ],
)
def test_knobs_that_exclude_each_other(knobs, said):
    with pytest.raises(Refused) as caught:
        Table(**{"path": "x.csv", **ROLES, **knobs})
    assert said in str(caught.value)


def test_a_word_for_a_gap_that_no_cell_holds(column, tmp_path):
    path = column(["a", "b", "Unknown"])
    assert "missing: it names 'unknown', which no cell contains. Did you mean 'Unknown'?" in refusal(
        path, missing=("unknown",)
    )
    assert "missing: it names '-99', which no cell contains. Take it out" in refusal(path, missing=("-99",))
    pd.DataFrame({"v": [1.0, -9.0, 2.0] * 4, "y": [0, 1] * 6}).to_parquet(tmp_path / "m.parquet")
    assert "it names '-8', which no cell contains" in refusal(str(tmp_path / "m.parquet"), missing=("-8",))


def test_a_decimal_mark_where_nothing_is_text(tmp_path):
    pd.DataFrame({"v": [1.0, 2.0] * 4, "y": [0, 1] * 4}).to_parquet(tmp_path / "m.parquet")
    assert "decimal: no column holds text" in refusal(str(tmp_path / "m.parquet"), decimal=",")
    pd.DataFrame({"v": ["1,0", "2,0"] * 4, "y": [0, 1] * 4}).to_parquet(tmp_path / "t.parquet")
    assert Table(str(tmp_path / "t.parquet"), "y", decimal=",").load().records.x.unique().tolist() == [0, 1]


def test_numbers_that_become_one_in_float32_are_refused(column, tmp_path):
    large = [str(10**9 + i) for i in range(N)]
    said = refusal(column(large), ranges=(("v", 0.0, 1e12),))
    assert f"of the {N} different values of column 'v' only 1 stay different when they are scaled" in said
    assert "Declare a narrower range" in said
    narrow = Table(column(large), "y", ranges=(("v", 1e9, 1e9 + 100),)).load().records.x[:, 1]
    assert torch.allclose(narrow, torch.arange(N) / 100)
    pd.DataFrame({"v": [2**60 + k for k in range(N)], "y": [0, 1] * (N // 2)}).to_parquet(tmp_path / "m.parquet")
    assert f"of the {N} different values of column 'v' only 1 stay" in refusal(str(tmp_path / "m.parquet"))


def test_numbers_wider_than_a_float(column):
    assert "reaches from -1e+308 to 1e+308, wider than a float can scale" in refusal(column(["-1e308", "1e308", "3"]))
    with pytest.raises(Refused, match="out of range"):
        Table("x.csv", "y", ranges=(("v", -1e308, 1e308),))
    clipped = Table(column(["0.5", "0.2", "1.7e308"]), "y", ranges=(("v", 0.0, 1.0),)).load()
    assert clipped.records.x[:3, 1].tolist() == pytest.approx([0.5, 0.2, 1.0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([b"a", b"b"], "column 'v' holds bytes. Store it as text, or drop the column"),
        ([[1, 2], [3]], "column 'v' holds lists. Give each element a column of its own"),
        ([{"a": 1}, {"a": 2}], "column 'v' holds structs"),
        ([datetime.date(2021, 3, 4), datetime.date(2021, 3, 5)], "column 'v' holds dates. Turn it into a number"),
        ([datetime.datetime(2021, 3, 4), datetime.datetime(2021, 3, 5)], "column 'v' holds dates"),
        ([datetime.timedelta(1), datetime.timedelta(2)], "column 'v' holds durations"),
        ([datetime.time(1), datetime.time(2)], "column 'v' holds times"),
        ([decimal.Decimal("1.5"), decimal.Decimal("2.5")], "column 'v' holds decimals"),
    ],
)
def test_types_that_are_no_text_and_no_number(tmp_path, values, said):
    pd.DataFrame({"v": values * 4, "w": range(8), "y": [0, 1] * 4}).to_parquet(tmp_path / "m.parquet")
    assert said in refusal(str(tmp_path / "m.parquet"))
    assert len(Table(str(tmp_path / "m.parquet"), "y", drop=("v",)).load().records) == 8


def test_a_column_of_two_types():
    with pytest.raises(Refused, match="column 'v' mixes numbers and text"):
        check_types(pd.DataFrame({"v": np.array([1, "1"], dtype=object)}))


@pytest.mark.parametrize(
    ("labels", "different"), [([str(i) for i in range(200)], 200), ([f"{i}.5" for i in range(40)], 40)]
)
def test_a_label_of_measurements(write, labels, different):
    path = write(["age,y", *(f"{i % 70},{label}" for i, label in enumerate(labels))])
    said = refusal(path)
    assert f"label: the label column 'y' holds {different} different numbers: classification needs classes" in said
    assert "For numbers write target = 'y' and task = { kind = 'regression', ... }" in said


@pytest.mark.parametrize("knob", ["drop", "missing", "columns"])
def test_a_text_where_a_list_of_texts_is_meant(knob):
    with pytest.raises(Refused) as caught:
        value(Table, {"path": "x.csv", "label": "y", knob: "who"}, "data")
    assert str(caught.value) == f"""data.{knob}: 'who' is not a list. Write ["who"]."""


def test_numbers_as_formulas_of_a_spreadsheet(write):
    path = write(["age,v,y", *(f'{i},"=""{45 + i % 3}""",{i % 2}' for i in range(N))])
    said = refusal(path)
    assert "row 1 has '=\"45\"'" in said and "Export values and no formulas: take the sign = and the quotes out" in said
    words = tuple(f'="{k}"' for k in (45, 46, 47))
    assert Table(path, "y", categories=(("v", *words),)).load().inputs.columns[1].words == words


@pytest.mark.parametrize(
    ("values", "decimal", "said"),
    [
        (("1.203", "2.345", "17,5"), ",", "Take the point out if it parts thousands"),
        (("1.203", "2.345"), ",", '(decimal = "." would read 1.203 as 1.203)'),
        (("1,203", "45,000", "12"), ".", '(decimal = "," would read 1,203 as 1.203)'),
        (("1.203", "2.34"), ",", 'Write its decimal mark as a comma, or set decimal = "."'),
        (("1,203", "2,34"), ".", 'Take the comma out, or set decimal = "," if it is the decimal mark'),
    ],
)
def test_a_mark_of_thousands_is_not_taken_for_the_decimal_mark(write, values, decimal, said):
    path = write(["age;v;y", *(f"{20 + i};{values[i % len(values)]};{i % 2}" for i in range(N))])
    assert said in refusal(path, separator=";", decimal=decimal)


GAP_WORDS = ("NULL", "NA", "None", "n/a", "nan")


@pytest.mark.parametrize("word", GAP_WORDS)
def test_a_word_for_a_gap_is_one_in_both_formats(write, tmp_path, word):
    frame = pd.DataFrame({"age": range(N), "v": ["a", "b", "c", word] * (N // 4), "y": ["u", "w"] * (N // 2)})
    frame.to_csv(tmp_path / "m.csv", index=False)
    frame.to_parquet(tmp_path / "m.parquet")
    for name in ("m.csv", "m.parquet"):
        path = str(tmp_path / name)
        assert "values are missing in 'v' (10)" in refusal(path)
        assert len(Table(path, "y", drop_missing=True).load().records) == N * 3 // 4
        declared = Table(path, "y", categories=(("v", "a", "b", "c", word),)).load()
        assert len(declared.records) == N and declared.records.x[:, 1:].sum(0).tolist() == [10.0] * 4
        assert "the site is missing in 10 rows of column 'v', such as row 4" in refusal(path, site="v")
        assert "the patient is missing in 10 rows of column 'v'" in refusal(path, patient="v")
        assert "values are missing in 'v' (10)" in refusal(path, "v")
        classes = Table(path, "v", categories=(("v", "a", "b", "c", word),)).load().classes
        assert classes == ("a", "b", "c", word)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "Float32"])
def test_numbers_are_compared_in_the_type_of_their_column(tmp_path, kind):
    path = str(tmp_path / "m.parquet")
    values = [0.1, 0.7, 9.9, 0.3] * (N // 4)
    pd.DataFrame({"v": pd.array(values, dtype=kind), "y": [0, 1] * (N // 2)}).to_parquet(path)
    left = Table(path, "y", missing=("9.9",), drop_missing=True).load()
    assert len(left.records) == N * 3 // 4
    inside = Table(path, "y", ranges=(("v", 0.1, 0.7),), missing=("9.9",), drop_missing=True).load()
    assert [one.what for one in inside.omitted] == ["rows with a gap"]
    assert Table(path, "v").load().classes == ("0.1", "0.3", "0.7", "9.9")
    declared = Table(path, "v", categories=(("v", "9.9", "0.7", "0.3", "0.1"),)).load()
    assert declared.records.y[:4].tolist() == [3, 1, 0, 2]
    assert "which no cell contains" in refusal(path, missing=("9.8",))


def test_whole_numbers_are_compared_to_the_last_digit(tmp_path):
    path = str(tmp_path / "m.parquet")
    pd.DataFrame({"v": [2**60, 2**60 + 1, 5, 3] * 10, "y": [0, 0, 1, 1] * 10}).to_parquet(path)
    left = Table(path, "y", missing=(str(2**60), "3.0"), drop_missing=True, ranges=(("v", 0.0, 2.0**60),)).load()
    assert len(left.records) == 20
    for word in ("3.5", "1e999", "9" * 40, "1e99999999999999999999", str(2**60 + 2)):
        assert "which no cell contains" in refusal(path, missing=(word,))


def test_names_in_a_float_that_keeps_too_few_digits(tmp_path):
    path = str(tmp_path / "m.parquet")
    who = np.array([2**24 + i for i in range(N)], dtype=np.float32)
    pd.DataFrame({"v": range(N), "who": who, "y": [0, 1] * (N // 2)}).to_parquet(path)
    assert "float32 keeps no name above 16777216. Store names as text" in refusal(path, patient="who")
