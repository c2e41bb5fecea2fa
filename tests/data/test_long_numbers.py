"""Numbers without bounds, numbers longer than a float keeps, and words that lost a letter: refused or noted."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.data.checks.names import check_names
from consilium.data.sources.table import Table

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 40


@pytest.fixture
def write(tmp_path):
    def text(lines):
        (tmp_path / "mine.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(tmp_path / "mine.csv")

    return text


def refusal(path, **knobs):
    with pytest.raises(Refused) as caught:
        Table(path, "y", **knobs).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("cell", "others"), [("inf", ""), ("-Infinity", ""), ("1e400", ""), ("inf", ", and 1 more")])
def test_a_number_without_bounds_is_refused_by_its_row(write, cell, others):
    cells = [str(20 + i) for i in range(N)]
    cells[6] = cell
    if others:
        cells[9] = cell
    said = refusal(write(["age,y", *(f"{c},{i % 2}" for i, c in enumerate(cells))]), ranges=(("age", 0, 110),))
    assert f"column 'age' holds infinite values: row 7 has one (inf, or beyond 1.8e308){others}" in said


@pytest.mark.parametrize("dtype", [None, "int64", "float32"])
def test_numbers_that_are_too_long_for_a_float_are_refused(write, tmp_path, dtype):
    base = 1_700_000_000 if dtype == "float32" else 2**53
    values = [base + (i * 7 % 40) * (10 if dtype == "float32" else 1) for i in range(N)]
    if dtype is None:
        path = write(["code,y", *(f"{v},{i % 2}" for i, v in enumerate(values))])
    else:
        path = str(tmp_path / "x.parquet")
        pd.DataFrame({"code": np.array(values).astype(dtype), "y": np.arange(N) % 2}).to_parquet(path)
    said = refusal(path)
    assert "column 'code'" in said and ("are too long: near " in said or "stay different" in said)
    low = [v - base for v in values]
    x = Table(write(["code,y", *(f"{v},{i % 2}" for i, v in enumerate(low))]), "y").load().records.x
    assert len(x.unique()) == N


def test_words_in_which_a_letter_was_lost_are_noted(write):
    words = ["N\ufffdrd", "Ost"]
    rows = [f"{20 + i},{words[i % 2]},{i // 2 % 2}" for i in range(N)]
    dataset = Table(write(["age,v,y", *rows]), "y").load()
    (note,) = [n for n in check_names(dataset, shared_patients=False) if "U+FFFD" in n]
    assert note.startswith("1 words of column 'v' hold U+FFFD in the place of a letter")
