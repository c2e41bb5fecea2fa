"""What a study in Python is called otherwise than it is, and how a refusal looks in a notebook."""

import copy
import dataclasses
import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from consilium import Study
from consilium.core.errors import Failed, Refused
from consilium.monitor.notebook_line import notebook_line
from consilium.monitor.progress import Ticker


def test_a_wrong_name_offers_the_right_one():
    with pytest.raises(Refused, match=r"a study has no 'atacks'\. Did you mean 'attacks'"):
        Study(name="a", data="digits", model="mlp", atacks=[])


def test_a_study_is_copied_and_replaced():
    study = Study(name="a", data="digits", model="mlp")
    assert copy.copy(study).name == "a" and dataclasses.replace(study, name="b").name == "b"


def test_a_notebook_shows_one_line(monkeypatch):
    monkeypatch.delenv("CONSILIUM_DEBUG", raising=False)
    error = Refused("5 of 3 sites", remedy="use fewer", where="data.sites")
    assert error._render_traceback_() == ["Refused: data.sites: 5 of 3 sites. Use fewer."]
    assert Failed("it broke")._render_traceback_() == ["Failed: it broke."]
    monkeypatch.setenv("CONSILIUM_DEBUG", "1")
    assert len(error._render_traceback_()) > 1


class Handle:
    def __init__(self, content):
        self.contents = [content]

    def update(self, content, *, raw):
        assert raw
        self.contents.append(content)


def test_progress_is_one_line_that_is_written_over(monkeypatch):
    handles = []

    def display(content, *, raw, display_id):
        assert raw and display_id
        handles.append(Handle(content))
        return handles[-1]

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    write = notebook_line()
    for line in ("[1/3] a", "[2/3] b", "[3/3] c"):
        write(line)
    assert len(handles) == 1
    assert handles[0].contents == [{"text/plain": line} for line in ("[1/3] a", "[2/3] b", "[3/3] c")]
    shell.kernel = None
    assert notebook_line() is None


def test_there_is_none_without_a_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook_line() is None


@pytest.mark.parametrize(("pieces", "last"), [(2, "[2/2] done"), (1, "[1/2] stopped")])
def test_the_line_of_a_notebook_ends_with_the_work(monkeypatch, pieces, last):
    lines = []
    monkeypatch.setattr("consilium.monitor.progress.notebook_line", lambda: lines.append)
    with Ticker({"attack": 2}, console=Console(file=io.StringIO())) as ticker:
        lane = ticker.lane()
        lane.begin("pgd")
        for _ in range(pieces):
            lane.did("attack")
    assert lines[0].startswith("[1/2] pgd") and lines[-1] == last
