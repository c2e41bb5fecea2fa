"""Nothing in the repository names a package registry or a path of one machine: it builds wherever pip works."""

import pytest

import house


def test_nothing_names_a_machine():
    assert list(house.hosts(house.tracked())) == []


@pytest.mark.parametrize(
    "halves",
    [("see https://pypi", ".org/simple"), ("data = '/", "work/data'"), ("cd /", "root/x"), ('a="/', 'home/me"')],
)
def test_a_planted_name_is_found(tmp_path, halves):
    line = "".join(halves)  # in halves here, or this file would name it too
    (tmp_path / "planted.md").write_text(f"fine\n{line}\n")
    assert "planted.md:2" in next(house.hosts([tmp_path / "planted.md"]))


@pytest.mark.parametrize("line", ["docs/work/a.md", "https://example.org/home/x", "/usr/bin/chromium", "~/work/x"])
def test_a_relative_path_or_a_site_is_not(tmp_path, line):
    (tmp_path / "fine.md").write_text(line)
    assert list(house.hosts([tmp_path / "fine.md"])) == []
