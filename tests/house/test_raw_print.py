"""Library code returns or raises; only the command line speaks."""

from pathlib import Path

import consilium
import house

SOURCE = Path(consilium.__file__).parent


def test_the_library_prints_nothing():
    assert list(house.prints(SOURCE.rglob("*.py"))) == []


def test_a_planted_print_is_found(tmp_path):
    (tmp_path / "planted.py").write_text("def f():\n    print('x')\n")
    assert "planted.py:2" in next(house.prints([tmp_path / "planted.py"]))
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli/run.py").write_text("print('x')\n")
    assert not list(house.prints([tmp_path / "cli/run.py"]))
