"""A relative path of data: where the program is started, else in the folder CONSILIUM_DATA, in that order."""

import pytest

from consilium.core.errors import Refused
from consilium.data.files.origin import given_file, given_folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    here, data = tmp_path / "here", tmp_path / "data"
    for folder in (here, data, data / "x-rays"):
        folder.mkdir()
    (data / "mine.csv").write_text("data")
    monkeypatch.chdir(here)
    monkeypatch.setenv("CONSILIUM_DATA", str(data))
    return here, data


def test_what_is_not_here_is_looked_for_there(places):
    here, data = places
    assert given_file("mine.csv") == data / "mine.csv" and given_folder("x-rays") == data / "x-rays"
    (here / "mine.csv").write_text("here")
    assert given_file("mine.csv").read_text() == "here"


def test_an_absolute_path_is_only_itself(places):
    here, _ = places
    with pytest.raises(Refused, match="does not exist"):
        given_file(str(here / "mine.csv"))


def test_a_refusal_names_the_variable_only_where_it_is_not_set(places, monkeypatch):
    with pytest.raises(Refused) as caught:
        given_file("other.csv")
    assert str(caught.value) == "path: other.csv does not exist. Name an existing file."
    monkeypatch.delenv("CONSILIUM_DATA")
    with pytest.raises(Refused, match="Name an existing file, or set CONSILIUM_DATA to the folder that holds it"):
        given_file("mine.csv")


def test_a_folder_of_data_that_is_none_is_refused(places, monkeypatch):
    monkeypatch.setenv("CONSILIUM_DATA", "nowhere")
    with pytest.raises(Refused, match="CONSILIUM_DATA: nowhere does not exist"):
        given_file("mine.csv")
