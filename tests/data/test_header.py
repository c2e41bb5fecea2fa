"""A line of names or units among the records: refused where it would be a record of its own categories."""

import random

import pytest

from consilium.core.errors import Refused
from consilium.data.sources.table import Table
from consilium.data.tables.header import check_first_record

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 60


@pytest.fixture
def write(tmp_path):
    def text(lines):
        (tmp_path / "mine.csv").write_text("".join(f"{line}\n" for line in lines))
        return str(tmp_path / "mine.csv")

    return text


def words(n=N):
    draw = random.Random(0)
    return [f"{draw.choice('FM')},{draw.choice(['I', 'II', 'III'])},{draw.choice(['ill', 'well'])}" for _ in range(n)]


def numbered(n=N):
    return [f"{20 + i % 50},{row}" for i, row in enumerate(words(n))]


COLUMNS = ("sex", "stage", "y")
HEADERS = [
    "sex,stage,y",
    "SEX,Stage,Y",
    "Sex,Tumour,Outcome",
    "patient_sex,tnm_stage,label",
    "Geschlecht,Stadium,Ergebnis",
    "a,b,c",
    "char(1),varchar(4),varchar(8)",
    ",Stage,Outcome",
    "Sex,Stage,",
    "Unnamed: 0,Unnamed: 1,Unnamed: 2",
    "F1?,F2?,F3?",
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("knobs", [{}, {"site": "sex"}, {"patient": "stage"}, {"drop": ("sex",)}])
def test_names_given_for_a_table_of_words_that_has_a_header(write, header, knobs):
    path = write([header, *words()])
    with pytest.raises(Refused) as refused:
        Table(path, "y", columns=COLUMNS, drop_missing=True, **knobs).load()
    said = str(refused.value)
    assert "row 1 holds" in said and "Take that line out, or leave out the knob columns" in said and "\n" not in said


def test_without_that_line_the_table_is_read(write):
    dataset = Table(write(words()), "y", columns=COLUMNS).load()
    assert len(dataset.records) == N and dataset.classes == ("ill", "well")


@pytest.mark.parametrize("header", ["Age,Sex,Stage,Result", "alter,geschlecht,stadium,ergebnis"])
def test_a_header_above_numbers_is_called_one_too(write, header):
    with pytest.raises(Refused, match=r"row 1 holds .* and 1 more, which are no numbers and occur nowhere else"):
        Table(write([header, *numbered()]), "y", columns=("age", *COLUMNS)).load()


@pytest.mark.parametrize("header", ["0,1,2,3", "1,2,3,4", "V1,V2,V3,V4", "x0,x1,x2,x3"])
def test_names_that_count_the_columns(write, header):
    rows = [f"{i % 7},{i % 5},{i % 3},{(0, 3)[i % 2]}" for i in range(N)]
    with pytest.raises(Refused, match=r"row 1 holds .*which (count the columns|are no numbers)"):
        Table(write([header, *rows]), "y", columns=("a", "b", "c", "y")).load()
    assert len(Table(write(rows[1:]), "y", columns=("a", "b", "c", "y")).load().records) == N - 1


def test_a_line_of_units_below_the_header(write):
    with pytest.raises(Refused, match=r"row 1 holds 'm/f', 'TNM', 'text', .* line of names or units"):
        Table(write(["sex,stage,y", "m/f,TNM,text", *words()]), "y").load()


def test_two_exports_with_other_names_in_one_file(write):
    with pytest.raises(Refused, match="row 1 holds 'Sex', 'Tumour', 'Outcome'"):
        Table(write(["Sex,Tumour,Outcome", *words(), "Sex,Tumour,Outcome", *words()]), "y", columns=COLUMNS).load()


@pytest.mark.parametrize(
    "rows",
    [
        ["F,IV,ill", *words()],  # a rare stage, and nothing else
        ["F,IV,well", "M,V,ill", *words()],
        [f"p{i},{'I' * (i % 3 + 1)},{('ill', 'well')[i % 2]}" for i in range(N)],  # every row has a name of its own
        [f"p{i},q{i},{('ill', 'well')[i % 2]}" for i in range(N)],
        ["X,IV,other", *words()[:5]],  # of so few rows one may be like that
        ["X,IV,other", "Y,V,more", *words()],  # not the first alone
        ["1,IV,other", *(f"{i % 2},I,{('ill', 'well')[i % 2]}" for i in range(N))],
    ],
)
def test_a_first_record_that_differs_is_one(write, rows):
    source = Table(write(rows), "y", columns=COLUMNS, patient="sex" if rows[0][0] == "p" else None,
        categories=(("stage", *sorted({row.split(",")[1] for row in rows})),))  # fmt: skip
    assert len(source.load().records) == len(rows)
    frame = pd.DataFrame([row.split(",") for row in rows], columns=COLUMNS)
    frame.index = range(1, len(frame) + 1)
    check_first_record(frame, {}, named=True)


def test_a_record_of_words_that_occur_once_is_read_where_they_are_declared(write):
    rows = ["X,IV,other", *words()]
    with pytest.raises(Refused, match="if it is a record, declare its words in categories"):
        Table(write(rows), "y", columns=COLUMNS).load()
    listed = (("stage", "I", "II", "III", "IV"),)
    assert len(Table(write(rows), "y", columns=COLUMNS, categories=listed).load().records) == N + 1


@pytest.mark.parametrize(
    ("lines", "label"),
    [
        (["63,F,II,ill", *numbered()], "ill"),
        (["63.5,1,145,1", *(f"{i},{i % 3},{100 + i},{i % 2}" for i in range(N))], "1"),
    ],
)
def test_a_first_record_that_is_taken_for_the_header(write, lines, label):
    with pytest.raises(Refused, match=r"the header seems to be a record\. Name the columns by the knob columns"):
        Table(write([lines[0].replace(",1,145,1", ",7,145,1"), *lines[1:]]), label).load()


@pytest.mark.parametrize("names", ["0,1,2,3", "400,410,420,430", "age,sex,stage,ill", "F,sex,stage,well"])
def test_names_that_are_numbers_or_words_are_names(write, names):
    rows = [f"{i / 7:.2f},{'FM'[i % 2]},{'I' * (i % 3 + 1)},{('ill', 'well')[i % 2]}" for i in range(N)]
    assert len(Table(write([names, *rows]), names.split(",")[-1]).load().records) == N


def test_a_header_that_comes_again_many_times_may_be_a_record(write):
    lines = ["F,II,ill"] * 3 + words()
    with pytest.raises(
        Refused, match=r"rows 1 and 2 \(\d+ in all\) hold the names .* the file has no header"
    ) as refused:
        Table(write(lines), "ill").load()
    assert "name the columns by the knob columns" in refused.value.remedy
