import runpy
from pathlib import Path

import pytest

from consilium.report.load.read import read_study

synthetic = runpy.run_path(str(Path(__file__).with_name("synthetic.py")))


@pytest.fixture(scope="session")
def write_study():
    return synthetic["write_study"]


@pytest.fixture(scope="session")
def injected():
    return synthetic["INJECTED"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A study of two seeds with every kind of trouble; tests read it and leave it as it is."""
    return synthetic["write_study"](tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="session")
def study(folder):
    return read_study(folder)


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory):
    return read_study(synthetic["write_study"](tmp_path_factory.mktemp("single"), seeds=(0,), trouble=False))
