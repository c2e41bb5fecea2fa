"""Streams, locales, links and files that are none: each ends right, or in one line at once."""

import json
import os
import subprocess
import sys

import pytest

STUDY = """
name = "odd"
threads = 1
data = {kind = "breast-cancer", sites = 2}
model = "logistic"
federation = {kind = "fed-avg", rounds = 2}
vary = {privacy = [{kind = "dp-sgd", epsilon = 4.0}]}
"""
PROGRAM = [sys.executable, "-m", "consilium"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd.toml").write_text(STUDY)
    return folder


def shell(home, line, **environment):
    done = subprocess.run(
        ["bash", "-c", line.replace("consilium", " ".join(PROGRAM), 1)], cwd=home, capture_output=True,
        timeout=600, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr and b"defect" not in done.stderr + done.stdout, done.stderr
    return done


def test_closed_streams_are_no_error(home):
    done = shell(home, "consilium run odd.toml --out closed <&- >&- 2>&-")
    assert done.returncode == 0 and (home / "closed" / "odd" / "report.html").stat().st_size > 1e6


def test_a_name_and_a_table_beyond_the_locale(home):
    done = shell(home, "consilium run odd.toml --out \u00e4", LC_ALL="C", PYTHONUTF8="0")
    assert done.returncode == 0 and b" eps " in done.stdout and b"report: \\xe4/odd/report.html" in done.stdout
    assert json.loads((home / "\u00e4" / "odd" / "study.json").read_text())["command"].endswith("--out '\u00e4'")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_study_file_that_never_ends_or_never_begins(home, consilium_cli, command):
    if not (home / "fifo.toml").exists():
        os.mkfifo(home / "fifo.toml")
        (home / "zero.toml").symlink_to("/dev/zero")
    for name, kind in (("fifo.toml", "a FIFO"), ("zero.toml", "a device")):
        done = consilium_cli(command, name, cwd=home)
        assert done.code == 2 and f"cannot read {name}: it is {kind}, not a file" in done.err


EARLY = """
import os, signal, sys
class Importing:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Importing())
from consilium.__main__ import main
main()
"""
LATE = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["consilium", "list", "defend/answer"]
from consilium.__main__ import main
main()
"""


def test_a_stop_while_the_program_is_imported_is_one_line(home):
    done = subprocess.run([sys.executable, "-c", EARLY], cwd=home, capture_output=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (3, b"consilium: stopped. Nothing was begun.\n")


def test_a_stop_when_all_is_done_changes_nothing(home):
    done = subprocess.run([sys.executable, "-c", LATE], cwd=home, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0 and b"round-answer" in done.stdout and not done.stderr
