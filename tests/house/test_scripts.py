"""The scripts are short, strict, and say what to do when Python is missing, too old or cannot make environments."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [p for p in (ROOT / "scripts").iterdir() if p.is_file() and not p.suffix]
COMMANDS = [p for p in SCRIPTS if not p.name.startswith("_")]


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda p: p.name)
def test_the_script_parses(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("script", [*COMMANDS, ROOT / ".ci/run"], ids=lambda p: p.name)
def test_the_script_is_strict_short_and_executable(script):
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert len(text.splitlines()) <= 40
    assert os.access(script, os.X_OK)


def with_python(tmp_path, body):
    """What ./scripts/study says on a machine whose python3 is ``body``; it stops before it makes anything."""
    fake = tmp_path / "python"
    if body:
        fake.write_text(f"#!/bin/sh\n{body}\n")
        fake.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(fake)}
    return subprocess.run(
        [str(ROOT / "scripts/study")], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


OLD = 'case "$*" in *version_info*) exit 1;; -V) echo Python 3.9.2;; esac'
BARE = 'case "$*" in *ensurepip*) exit 1;; -V) echo Python 3.11.2;; esac'


@pytest.mark.parametrize(
    ("body", "remedy"),
    [("", "Install Python 3.11 or newer"), (OLD, "Python 3.9.2 is too old"), (BARE, "apt-get install python3-venv")],
    ids=["missing", "old", "without venv"],
)
def test_a_python_that_will_not_do_is_named_with_a_remedy(tmp_path, body, remedy):
    said = with_python(tmp_path, body)
    assert said.returncode == 2
    assert remedy in said.stderr
    assert len(said.stderr.splitlines()) == 1
