"""No file that the program reads can run code: no pickle in any guise, no eval, no exec."""

from pathlib import Path

import pytest

import consilium
import house

SOURCE = Path(consilium.__file__).parent


def test_the_source_runs_nothing_that_it_reads():
    assert list(house.unsafe(SOURCE.rglob("*.py"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path, weights_only=True)",
        "numpy.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=flag)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_a_planted_one_is_found(tmp_path, line):
    (tmp_path / "planted.py").write_text(line)
    assert list(house.unsafe([tmp_path / "planted.py"]))


@pytest.mark.parametrize("line", ["module.eval()", "numpy.load(path, allow_pickle=False)", "import json"])
def test_the_harmless_is_not(tmp_path, line):
    (tmp_path / "fine.py").write_text(line)
    assert not list(house.unsafe([tmp_path / "fine.py"]))
