"""The committed reference is what the code says now."""

import subprocess
import sys

import pytest

import reference


@pytest.mark.parametrize("name", sorted(reference.pages()))
def test_the_page_is_fresh(name):
    committed = (reference.FOLDER / name).read_text(encoding="utf-8")
    assert committed == reference.pages()[name], "run ./scripts/docs"


def test_every_page_is_written_by_the_code():
    assert {path.name for path in reference.FOLDER.iterdir()} == set(reference.pages())


def test_an_entry_stands_in_its_table():
    page = reference.entry_page()
    assert "## Attacks: evasion" in page
    assert "| `pgd` |" in page
    assert "| `radius` | How far a point may move" in page and "| `0.03` | a number above 0 |" in page


def test_writing_needs_no_torch():
    code = "import sys, reference; reference.pages(); sys.exit('torch' in sys.modules)"
    ask = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(reference.FOLDER.parents[1] / 'scripts')!r})\n{code}",
    ]
    assert subprocess.run(ask, check=False, timeout=600).returncode == 0
