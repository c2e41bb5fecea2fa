"""No file or folder is called util, helper, misc or common."""

import pytest

import house


def test_every_name_says_something():
    assert list(house.names((p for p in house.tracked() if p.suffix == ".py"), house.ROOT)) == []


@pytest.mark.parametrize("name", ["utils.py", "helper/plot.py", "data_utils.py", "core/Misc/a.py", "common.py"])
def test_a_hollow_name_is_found(tmp_path, name):
    assert list(house.names([tmp_path / name], tmp_path))


@pytest.mark.parametrize("name", ["utility.py", "commons_of_sites.py", "miscalibration.py"])
def test_a_speaking_name_is_not(tmp_path, name):
    assert not list(house.names([tmp_path / name], tmp_path))
