"""What a spreadsheet shows in the place of a value: refused by row as a class, a site, a patient and a category."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.data.checks.gap_words import is_spreadsheet_error, names_no_class
from consilium.data.files.arrays import identities
from consilium.data.sources.image_folder import ImageFolder
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 60
ERRORS = ["#REF!", "#ref!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!", "#BEZUG!", "#WERT!",
    "#NOM?", "#VALEUR!", "#NOMBRE?", "#¡REF!", "#¡VALOR!", "#ЗНАЧ!", "###", "#####", "########", "##########",
    "#GETTING_DATA", "Err:502", "Fehler:522"]  # fmt: skip
GAPS = ["#N/A", "#NV", "#N/D", "#NA"]
WORDS = ["#1", "#12", "# 3", "C#", "#a", "#b12", "a#b!", "##", "Error", "no. 5!", "!", "#tag"]


@pytest.fixture
def table(tmp_path):
    def of(word, role, **knobs):
        rows = [f"{20 + i * 7 % 61};{word if i == 4 else 'pq'[i % 2]};{'ab'[i % 2]}" for i in range(N)]
        (tmp_path / "mine.csv").write_text("\n".join(["age;v;y", *rows]) + "\n")
        roles = {"label": "v" if role == "label" else "y", **({role: "v"} if role in ("site", "patient") else {})}
        return Table(str(tmp_path / "mine.csv"), separator=";", **roles, **knobs)

    return of


@pytest.mark.parametrize("word", ERRORS)
@pytest.mark.parametrize("role", ["label", "site", "patient", "feature"])
@pytest.mark.parametrize("drop_missing", [False, True])
def test_an_error_is_no_word_of_a_table(table, word, role, drop_missing):
    with pytest.raises(Refused) as refused:
        table(word, role, drop_missing=drop_missing).load()
    said = str(refused.value)
    assert f"column 'v' holds {word!r} in row 5, and such errors in 1 of its 60 rows" in said and "\n" not in said
    assert f"or add {word!r} to missing if the values are not known" in said


@pytest.mark.parametrize("word", ERRORS)
def test_an_error_that_is_named_is_a_gap_or_a_word(table, word):
    assert len(table(word, "label", missing=(word,), drop_missing=True).load().records) == N - 1
    assert len(table(word, "feature", categories=(("v", "p", "q", word),)).load().records) == N


@pytest.mark.parametrize("word", GAPS)
def test_what_says_that_a_value_is_not_there_is_a_gap(table, word):
    with pytest.raises(Refused, match=r"values are missing in 'v' \(1\)"):
        table(word, "label").load()
    assert table(word, "label", drop_missing=True).load().omitted[0].count == 1


@pytest.mark.parametrize("word", WORDS)
def test_other_words_with_such_marks_are_words(table, word):
    assert not is_spreadsheet_error(word)
    assert table(word, "label").load().classes == tuple(sorted(["p", "q", word]))


@pytest.mark.parametrize("word", ERRORS)
@pytest.mark.parametrize("name", ["units", "keys"])
def test_an_error_names_nobody_in_an_archive(tmp_path, word, name):
    names = np.array([word, *("abcd"[i % 4] for i in range(N - 1))])
    np.savez(tmp_path / "m.npz", x=np.random.default_rng(0).random((N, 3)), y=np.arange(N) % 2, **{name: names})
    with pytest.raises(Refused, match=r"record 0 is named .* which marks a missing name"):
        NPZ(str(tmp_path / "m.npz")).load()


@pytest.mark.parametrize("label", ["nan", "NaN", "NaT", "<NA>", "#REF!", "#####"])
def test_a_class_of_pictures_without_a_label(tmp_path, label):
    image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    for i, name in enumerate([label, "ill", "well"] * 4):
        (tmp_path / name).mkdir(exist_ok=True)
        image.new("L", (9, 9), i).save(tmp_path / name / f"{i}.png")
    assert names_no_class(label) and not names_no_class("None")
    with pytest.raises(Refused, match=f"class '{label}' is called as a program writes a label that is not known"):
        ImageFolder(str(tmp_path), size=9).load()


SHORTENED = ["1E15", "1e5", "1E05", "9E99", "1,23E+15", "1.23E15", "1,23E15", "1.E+15", "12E+15", "123.4E+12", "1E+05",
    "1e15.0", "-1E15", "1,E+15"]  # fmt: skip


@pytest.mark.parametrize("name", SHORTENED)
@pytest.mark.parametrize("others", [["p1", "p2"], ["123456", "7"], ["a", "b"], ["Ward-A"]])
def test_names_that_a_spreadsheet_shortened(name, others):
    with pytest.raises(Refused, match=r"is named .*: a spreadsheet has shortened it, and others may bear the same"):
        identities([*others, name], "pid")


@pytest.mark.parametrize("names", [["1e15", "3fa2", "00b1"], ["1E5", "A07", "1B2"], ["1e2", "100"], ["E15", "e5"],
    ["12e5", "7"], ["1e5a", "x"], ["case 1e5", "y"], ["1E5-2", "1E5-3"]])  # fmt: skip
def test_names_in_hexadecimal_and_other_codes_are_names(names):
    assert identities(names, "pid") == names
