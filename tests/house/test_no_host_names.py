"""Nothing in the repository names a package registry or a path of one machine: it builds wherever pip works."""

from pathlib import Path

import pytest

import house

OWN = {Path(__file__).resolve(), Path(house.__file__).resolve()}
"""The two files that must spell out what they look for."""


def test_nothing_names_a_machine():
    assert list(house.hosts(p for p in house.tracked() if p.resolve() not in OWN)) == []


@pytest.mark.parametrize("line", ["see https://pypi.org/simple", "data = '/work/data'", "cd /root/x", 'a="/home/me/b"'])
def test_a_planted_name_is_found(tmp_path, line):
    (tmp_path / "planted.md").write_text(f"fine\n{line}\n")
    assert "planted.md:2" in next(house.hosts([tmp_path / "planted.md"]))


@pytest.mark.parametrize("line", ["docs/work/a.md", "https://example.org/home/x", "/usr/bin/chromium", "~/work/x"])
def test_a_relative_path_or_a_site_is_not(tmp_path, line):
    (tmp_path / "fine.md").write_text(line)
    assert list(house.hosts([tmp_path / "fine.md"])) == []
