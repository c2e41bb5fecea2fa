"""What a shell offers, and the options that every command line has: --version, -h, --quiet."""

import pytest
from typer.testing import CliRunner

from consilium.cli import commands
from consilium.cli.completion import folders, kinds_and_folders, rooms, studies
from consilium.core.catalogue import ROOMS

RUNNER = CliRunner()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a study, a file that is none, and a folder with another study."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.toml", "notes.txt", "more/other.toml", ".hidden.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()


def test_study_files_and_the_folders_on_the_way(here):
    assert studies("") == ["mine.toml", "more/"] and studies("mi") == ["mine.toml"]
    assert studies("more/") == ["more/other.toml"] and studies("nowhere/") == []
    assert folders("") == ["more/"] and studies(".h") == [".hidden.toml"]


def test_kinds_and_rooms(here):
    assert kinds_and_folders("dp-") == ["dp-fed-avg", "dp-sgd"] and "more/" in kinds_and_folders("mo")
    assert rooms("attack/e") == ["attack/evasion", "attack/extraction"] and "defend" in rooms("d")
    assert set(ROOMS) <= set(rooms(""))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("consilium plan mi", "mine.toml"),
        ("consilium show dp-s", "dp-sgd"),
        ("consilium list defend/m", "defend/merge"),
    ],
)
def test_a_shell_asks_and_is_answered(here, typed, offered):
    """As bash does it: the words so far in the environment, a line an offer on standard output."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_CONSILIUM_COMPLETE": "complete_bash"}
    done = RUNNER.invoke(commands._app, [], env=words, prog_name="consilium")
    assert offered in done.stdout.splitlines()


def test_completion_can_be_installed_and_shown():
    said = RUNNER.invoke(commands._app, ["--help"]).stdout
    assert "--install-completion" in said and "--show-completion" in said


@pytest.mark.parametrize(
    "words", [[], ["run"], ["plan"], ["report"], ["show"], ["list"], ["init"], ["keys"], ["keys", "site"]]
)
def test_h_is_help_everywhere(words):
    short, long = (RUNNER.invoke(commands._app, [*words, option]) for option in ("-h", "--help"))
    assert short.exit_code == 0 and short.stdout == long.stdout and "Usage" in short.stdout


def test_the_version():
    done = RUNNER.invoke(commands._app, ["--version"])
    assert done.exit_code == 0 and done.stdout == "consilium 0.1.0\n"
