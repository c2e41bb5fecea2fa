"""Tables of findings, quantities and times: the columns that a task reads, and values that are none."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.data.sources.table import Table
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel
from consilium.learn.tasks.survival import Survival
from consilium.study.spec.toml_binding import value

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")

ROWS = [
    # age, effusion, nodule, bp, months, died
    (20, "1", "yes", "120.5", "3", "true"),
    (40, "0", "no", "95", "12.5", "False"),
    (60, "0.0", "YES", "180", "7", "TRUE"),
    (80, "1", "No", "60", "40", "false"),
]
NUMBER = Regression(low=50.0, high=250.0, tolerance=10.0)
TIME = Survival(cuts=(6.0, 12.0), horizon=12.0)
RANGES = (("age", 0.0, 100.0),)


@pytest.fixture
def csv(tmp_path):
    def write(rows=ROWS, name="mine.csv", separator=","):
        lines = [
            separator.join(map(str, row)) for row in [("age", "effusion", "nodule", "bp", "months", "died"), *rows]
        ]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    return write


def changed(place, column, word):
    rows = [list(row) for row in ROWS]
    rows[place][column] = word
    return rows


def refusal(path, task, **knobs):
    with pytest.raises(Refused) as caught:
        Table(path, ranges=RANGES, **knobs).load_for(task)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_findings_are_read_as_people_write_them(csv):
    data = Table(csv(), target=("effusion", "nodule"), drop=("bp", "months", "died"), ranges=RANGES).load_for(
        MultiLabel()
    )
    assert data.classes == ("effusion", "nodule") and data.inputs.classes_declared
    assert data.records.y.dtype == torch.int64
    assert data.records.y.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    assert data.records.x.flatten().tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_two_declared_categories_are_absent_and_present(csv):
    knobs = {"drop": ("effusion", "bp", "months", "died"), "ranges": RANGES}
    words = changed(0, 2, "seen")
    for row, word in zip(words, ["seen", "clear", "seen", "clear"], strict=True):
        row[2] = word
    table = Table(csv(words), target="nodule", categories=(("nodule", "clear", "seen"),), **knobs)
    assert table.load_for(MultiLabel()).records.y.tolist() == [[1], [0], [1], [0]]
    said = refusal(csv(words), MultiLabel(), target="nodule", categories=(("nodule", "clear", "seen", "perhaps"),),
                   drop=knobs["drop"])  # fmt: skip
    assert "finding 'nodule' has 3 categories. Declare two" in said


def test_quantities_are_numbers_in_their_own_units(csv):
    drop = ("effusion", "nodule", "died")
    one = Table(csv(), target="bp", drop=(*drop, "months"), ranges=RANGES).load_for(NUMBER)
    assert one.classes == ("bp",) and one.records.y.tolist() == [[120.5], [95.0], [180.0], [60.0]]
    wide = Regression(low=0.0, high=250.0, tolerance=10.0)
    two = Table(csv(), target=("months", "bp"), drop=drop, ranges=RANGES).load_for(wide)
    assert two.classes == ("months", "bp") and two.records.y[1].tolist() == [12.5, 95.0]
    assert two.records.y.dtype == torch.float32 and two.records.x.shape == (4, 1)


def test_a_decimal_comma_is_one_in_a_target_too(csv):
    path = csv(changed(0, 3, "120,5"), separator=";")
    table = Table(path, target="bp", separator=";", decimal=",", drop=("effusion", "nodule", "months", "died"))
    assert table.load_for(NUMBER).records.y[0].tolist() == [120.5]


def test_parquet_has_the_same_answers(csv, tmp_path):
    frame = pd.read_csv(csv())
    frame["died"] = frame["died"].astype(str).str.lower() == "true"
    frame.to_parquet(tmp_path / "mine.parquet")
    for path in (csv(), str(tmp_path / "mine.parquet")):
        table = Table(path, time="months", event="died", drop=("effusion", "nodule", "bp"), ranges=RANGES)
        assert table.load_for(TIME).records.y.tolist() == [[3, 1], [12.5, 0], [7, 1], [40, 0]]
    table = Table(str(tmp_path / "mine.parquet"), target="bp", drop=("effusion", "nodule", "months", "died"))
    assert table.load_for(NUMBER).records.y.flatten().tolist() == [120.5, 95.0, 180.0, 60.0]


@pytest.mark.parametrize(
    ("task", "knobs", "column", "word", "said"),
    [
        (MultiLabel(), {"target": ("effusion", "nodule")}, 2, "maybe",
         "target: column 'nodule', row 3, holds 'maybe', and a finding is 0 or 1, true or false, yes or no"),
        (MultiLabel(), {"target": ("effusion", "nodule")}, 1, "-1", "column 'effusion', row 3, holds '-1'"),
        (MultiLabel(), {"target": ("effusion", "nodule")}, 1, "", "values are missing in 'effusion' (1)"),
        (NUMBER, {"target": "bp"}, 3, "high", "column 'bp', row 3, holds 'high', and regression reads numbers"),
        (NUMBER, {"target": "bp"}, 3, "inf", "column 'bp', row 3, holds 'inf'"),
        (NUMBER, {"target": "bp"}, 3, "1e9", "row 3 has bp = 1e+09, which is a label outside the declared range"),
        (TIME, {"time": "months", "event": "died"}, 4, "0", "row 3 has months = 0, died = 1, which is no time above 0"),
        (TIME, {"time": "months", "event": "died"}, 4, "long", "column 'months', row 3, holds 'long'"),
        (TIME, {"time": "months", "event": "died"}, 5, "2", "column 'died', row 3, holds '2', and a finding is"),
    ],
)  # fmt: skip
def test_an_odd_value_is_refused_by_row_column_and_value(csv, task, knobs, column, word, said):
    others = {"effusion", "nodule", "bp", "months", "died"} - {
        name for names in knobs.values() for name in ([names] if isinstance(names, str) else names)
    }
    assert said in refusal(csv(changed(2, column, word)), task, drop=tuple(sorted(others)), **knobs)
    Table(csv(), drop=tuple(sorted(others)), ranges=RANGES, **knobs).load_for(task)  # and without it the table is read


@pytest.mark.parametrize(
    ("task", "knobs", "said"),
    [
        (SingleLabel(), {"target": "bp"}, 'target: the task single-label reads no target. Write label = "COLUMN"'),
        (SingleLabel(), {}, 'label: the task single-label needs it. Write label = "COLUMN"'),
        (NUMBER, {"label": "bp"}, "label: the task regression reads no label"),
        (MultiLabel(), {"time": "months"}, "time: the task multi-label reads no time"),
        (TIME, {"time": "months"}, 'event: the task survival needs it. Write time = "COLUMN", event = "COLUMN"'),
        (Masks(threshold=0.5), {"target": "bp"}, "task: table has no labels for the task masks"),
        (NUMBER, {"target": "BP"}, "target: there is no column 'BP'. Did you mean 'bp'"),
        (NUMBER, {"target": ()}, "target: () is out of range. Use a column, or a list of columns"),
        (NUMBER, {"target": ("bp", "bp")}, "it names 'bp', as target[0] does"),
        (NUMBER, {"target": "bp", "drop": ("bp",)}, "column 'bp' is the target"),
        (NUMBER, {"target": "age"}, "column 'age' is the target"),
    ],
)
def test_columns_that_a_task_does_not_read_are_refused(csv, task, knobs, said):
    assert said in refusal(csv(), task, **knobs)


def test_words_of_a_label_are_put_together_to_classes(csv):
    rows = [(20 + k, k % 2, k % 2, 100, 1, word) for k, word in enumerate("01234012")]
    knobs = {"label": "died", "drop": ("effusion", "nodule", "bp", "months"), "ranges": RANGES}
    classes = (("well", "0"), ("ill", "1", "2", "3", "4"))
    data = Table(csv(rows), classes=classes, **knobs).load()
    assert data.classes == ("well", "ill") and data.inputs.classes_declared
    assert data.records.y.tolist() == [0, 1, 1, 1, 1, 0, 1, 1]

    def said(**more):
        with pytest.raises(Refused) as caught:
            Table(csv(rows), **{**knobs, **more}).load()
        return str(caught.value)

    assert "column 'died', row 5, holds '4', which is a word of no class" in said(classes=(("a", "0"), ("b", *"123")))
    assert "classes: '0' stands twice" in said(classes=(("a", "0"), ("b", "0", "1")))
    assert "classes: a class has no words, or there is only one" in said(classes=(("a", "0"),))
    assert "the label 'died' has categories too" in said(classes=classes, categories=(("died", "0", "1"),))


def test_target_is_a_text_or_a_list_in_a_study(csv):
    table = {"path": csv(), "drop": ["nodule", "months", "died"]}
    assert value(Table, {**table, "target": "bp"}, "data").target == "bp"
    assert value(Table, {**table, "target": ["bp", "effusion"]}, "data").target == ("bp", "effusion")
    with pytest.raises(Refused, match=r"data\.target"):
        value(Table, {**table, "target": 3}, "data")
