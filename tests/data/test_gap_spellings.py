"""A word for a gap is one in every spelling of its number, with every task, and never where it is declared."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.data.columns.gap_cells import texts_among
from consilium.data.sources.image_folder import ImageFolder
from consilium.data.sources.table import Table
from consilium.data.sources.text import Text
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.survival import Survival

NUMBER = Regression(low=-20.0, high=100.0, tolerance=5.0)


@pytest.mark.parametrize(
    ("texts", "word", "decimal", "among"),
    [
        (["-9.0", "-9", "-9.00", "9", "-9.5"], "-9", ".", ["-9.0", "-9", "-9.00"]),
        (["-9", "3"], "-9.0", ".", ["-9"]),
        (["0,0", "0,00", "5,5", "0.0"], "0", ",", ["0,0", "0,00"]),  # a point is no decimal mark there
        (["-9,0", "1,5"], "-9.0", ",", ["-9,0"]),
        ([".0", "00", "0e0", "7", "NA"], "0", ".", [".0", "00", "0e0"]),
        (["09", "a1", "b2", "c3"], "9", ".", []),  # codes are no numbers
        (["?", "x"], "?", ".", ["?"]),
    ],
)
def test_a_number_in_every_spelling(texts, word, decimal, among):
    assert texts_among(texts, [word], decimal) == set(among)


def table(tmp_path, lines, **knobs):
    pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")
    return Table(str(tmp_path / "mine.csv"), **knobs)


def test_a_table_with_a_decimal_comma(tmp_path):
    lines = ["chol;bp;ill", "0,0;1;no", "0,00;2;yes", "5,5;3;no", "6,5;4;yes", ".0;5;no"]
    knobs = {"label": "ill", "separator": ";", "decimal": ",", "missing": (("chol", "0"),)}
    data = table(tmp_path, lines[:-1], **knobs, drop_missing=True).load()
    assert len(data.records) == 2 and data.omitted[0].count == 2
    with pytest.raises(Refused, match=r"'chol' \(2\)"):
        table(tmp_path, lines[:-1], **knobs).load()
    quantities = {**knobs, "label": None, "target": "chol", "drop": ("ill",), "drop_missing": True}
    assert table(tmp_path, lines[:-1], **quantities).load_for(NUMBER).records.y.tolist() == [[5.5], [6.5]]


def test_a_word_of_a_class_is_no_gap(tmp_path):
    lines = ["age,arm", *(f"{20 + k},{('None', 'aspirin', 'NA')[k % 3]}" for k in range(9))]
    classes = (("none", "None"), ("drug", "aspirin"))
    data = table(tmp_path, lines, label="arm", classes=classes, drop_missing=True).load()
    assert data.records.y.tolist() == [0, 1] * 3 and data.omitted[0].count == 3


@pytest.fixture
def pictures(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    for k in range(4):
        image.fromarray(np.full((6, 6), 60 * k, np.uint8)).save(tmp_path / f"{k}.png")

    def folder(cells, **knobs):
        rows = [f"{k}.png,{cell}" for k, cell in enumerate(cells)]
        (tmp_path / "labels.csv").write_text("\n".join(["file,a,b"[: 6 + 2 * cells[0].count(",")], *rows]) + "\n")
        return ImageFolder(str(tmp_path), size=6, labels="labels.csv", **knobs)

    return folder


@pytest.mark.parametrize(
    ("task", "cells", "knobs"),
    [
        (NUMBER, ["1", "-9", "2", "3"], {"target": "a", "missing": ("-9",)}),
        (NUMBER, ["1", "-9.0", "2", "3"], {"target": "a", "missing": ("-9",)}),
        (Survival(cuts=(45.0, 65.0), horizon=65.0), ["1,0", "99,1", "2,1", "3,0"],
         {"time": "a", "event": "b", "missing": ("99",)}),
    ],
)  # fmt: skip
def test_a_gap_in_the_labels_of_pictures_is_refused_by_every_task(pictures, task, cells, knobs):
    with pytest.raises(Refused, match="row 2, says nothing"):
        pictures(cells, **knobs).load_for(task)
    assert len(pictures(cells, **knobs, drop_missing=True).load_for(task).records) == 3


def test_the_number_of_a_gap_in_every_spelling_is_left_out(pictures):
    data = pictures(["1", "-9", "-9.0", "3"], target="a", missing=("-9",), drop_missing=True).load_for(NUMBER)
    assert data.records.y.tolist() == [[1], [3]] and data.omitted[-1].count == 2


def test_a_word_that_means_no_finding_is_no_gap(pictures):
    knobs = {"target": "a", "classes": ("Nodule",), "ignore": ("None",), "drop_missing": True}
    data = pictures(["None", "Nodule", "NA", "None"], **knobs).load_for(MultiLabel())
    assert data.records.y.tolist() == [[0], [1], [0]] and data.omitted[-1].count == 1


def test_a_word_for_a_gap_that_no_picture_has_is_refused(pictures):
    with pytest.raises(Refused, match="'-8', which no cell contains"):
        pictures(["1", "-9", "2", "3"], target="a", missing=("-9", "-8"), drop_missing=True).load_for(NUMBER)


@pytest.mark.parametrize("role", ["label", "attribute"])
def test_an_error_of_a_spreadsheet_is_no_word_beside_pictures(pictures, role):
    knobs = {"label": "a"} if role == "label" else {"label": "b", "attributes": ("a",)}
    cells = ["x,0", "#REF!,1", "y,0", "x,1"]
    with pytest.raises(Refused, match="'a', row 2, holds '#REF!'"):
        pictures(cells, **knobs).load()
    assert len(pictures(cells, **knobs, missing=("#REF!",), drop_missing=True).load().records) >= 3


@pytest.mark.parametrize("word", ["nan", "NA", "#REF!"])
def test_what_says_no_label_is_no_class_of_texts(tmp_path, word):
    (tmp_path / "notes.csv").write_text(f"text,label\nall well,well\nvery ill,ill\nno idea,{word}\n")
    with pytest.raises(Refused, match=f"row 3 has the label '{word}'"):
        Text(str(tmp_path / "notes.csv"), "records").load()
    declared = Text(str(tmp_path / "notes.csv"), "records", classes=("well", "ill", word)).load()
    assert declared.records.y.tolist() == [0, 1, 2]
