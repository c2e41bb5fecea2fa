import runpy
from pathlib import Path

import pytest

synthetic = runpy.run_path(str(Path(__file__).parents[1] / "report" / "synthetic.py"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A study of two seeds with every kind of trouble; tests read it and leave it as it is."""
    return synthetic["write_study"](tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="session")
def injected():
    return synthetic["INJECTED"]
