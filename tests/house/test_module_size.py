"""Files stay short because they hold one idea."""

import house


def test_no_file_is_past_the_limit():
    assert list(house.sizes(p for p in house.tracked() if p.suffix == ".py")) == []


def test_a_long_file_is_found(tmp_path):
    path = tmp_path / "long.py"
    path.write_text("x = 1\n" * house.LIMIT)
    assert list(house.sizes([path])) == []
    path.write_text("x = 1\n" * (house.LIMIT + 1))
    assert "401 lines" in next(house.sizes([path]))
