"""Whose fault an error is that nobody caught: a user's own file is named, and never called a defect of Consilium."""

import importlib
import json

import pytest
import torch
import typer

from consilium.cli import guard
from consilium.core.errors import Refused
from consilium.study.store.error_summary import own_code


def raised(act):
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_innermost_line_of_a_users_own_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "own_code.py").write_text("import json\n\ndef reads(text):\n    return json.loads(text)\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("own_code")
    assert own_code(raised(lambda: own.reads("{"))) == f"{tmp_path / 'own_code.py'}:4"


def test_what_is_installed_is_nobodys_own():
    error = raised(lambda: json.loads("{"))
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # without this file
    assert own_code(error) == ""
    error = raised(lambda: torch.zeros(2) @ torch.zeros(3))
    error.__traceback__ = None
    assert own_code(error) == ""


def test_the_command_line_says_whose_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CONSILIUM_DEBUG", raising=False)
    lines = "def fails():\n    raise KeyError('weights')\n\ndef leaves():\n    raise SystemExit('gone')\n"
    (tmp_path / "own_fault.py").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("own_fault")
    with pytest.raises(typer.Exit) as ended, guard.guarded(False):
        own.fails()
    said = capsys.readouterr().err
    assert ended.value.exit_code == Refused.exit_code
    assert f"{tmp_path / 'own_fault.py'}:2 raised KeyError: 'weights'" in said and "defect" not in said
    with pytest.raises(typer.Exit) as ended, guard.guarded(False):
        own.leaves()
    assert ended.value.exit_code == Refused.exit_code and ":5 raised SystemExit: gone" in capsys.readouterr().err
    defect = guard._unforeseen(RuntimeError("a broken invariant"))
    assert "this is a defect of Consilium" in defect.remedy
