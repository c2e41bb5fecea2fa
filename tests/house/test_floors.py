"""Imports only go down; and the linter that says so would notice an import that does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def floors(tree):
    ask = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "COLUMNS": "200"}
    return subprocess.run(ask, cwd=tree, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_only_go_down(copy):
    kept = floors(copy)
    assert kept.returncode == 0, kept.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("attack/_planted.py", "import consilium.defend"),  # sideways
        ("core/planted.py", "from consilium import learn"),  # up
        ("measure/planted.py", "def f():\n    import consilium.data"),  # sideways, and hidden in a function
    ],
)
def test_a_planted_import_breaks_them(copy, module, line):
    (copy / "src/consilium" / module).write_text(line + "\n")
    broken = floors(copy)
    assert broken.returncode != 0
    assert "planted" in broken.stdout


def test_core_needs_only_torch_safetensors_and_the_standard_library():
    names = set()
    for path in (ROOT / "src/consilium/core").glob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and not words[1].startswith((".", "consilium")):
                names.add(words[1].split(".")[0])
    assert names - set(sys.stdlib_module_names) <= {"torch", "safetensors"}
