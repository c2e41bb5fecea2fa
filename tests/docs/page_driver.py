"""Runs the blocks of one documentation page; started by test_code_blocks.py, which hands it the page in a JSON file.

A failure names the page and the line of the block.  It runs in a child of the fork server, which gives it
``consilium``: the command line in a process of its own, without the seconds of its imports.
"""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

BUNDLED = {"digits", "breast-cancer"}


consilium = globals()["consilium"]


def fail(where, why):
    sys.exit(f"{where}: {why}")


def commands(step):
    """(line, command) of a shell block: comments dropped, continued lines joined."""
    joined, started = "", None
    prompt = "$ " if step["language"] == "console" else ""
    for at, written in enumerate(step["text"].splitlines(), step["line"]):
        if not joined and not written.startswith(prompt):
            continue
        line = written if joined else written.removeprefix(prompt)
        if not joined and (not line.strip() or line.lstrip().startswith("#")):
            continue
        started = started if joined else at
        joined += line
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        yield started, joined
        joined = ""


def shell(step, job):
    expected = int(step["value"]) if step["mark"] == "exit" else 0
    for line, command in commands(step):
        where, words = f"{job['page']}:{line}", shlex.split(command, comments=True)
        if words[0].startswith("./scripts/"):
            if not os.access(Path(job["root"]) / words[0], os.X_OK):
                fail(where, f"{words[0]} is not there")
        elif words[0] == "consilium":
            simple = not set(command) & set("|&;<>()$`*?[]~\n")
            code = consilium(words[1:]) if simple else subprocess.run(command, shell=True, check=False).returncode
            if code != expected:
                fail(where, f"`{command}` ended with {code}, not {expected}")
        else:
            fail(where, f"`{command}` is neither consilium nor a script: mark the block `<!-- not run: REASON -->`")


def python(step, job, namespace):
    source = "\n" * (step["line"] - 1) + step["text"]
    exec(compile(source, job["page"], "exec"), namespace)


def toml(step, job):
    where = f"{job['page']}:{step['line']}"
    try:
        given = tomllib.loads(step["text"])
    except tomllib.TOMLDecodeError as error:
        fail(where, error)
    if not {"name", "data"} <= given.keys() or importlib.util.find_spec("consilium.cli") is None:
        return
    if given["data"].get("kind") not in BUNDLED and "CONSILIUM_DATA" not in os.environ:
        print(f"{where}: parsed only, its data are not here")
        return
    name = step["value"] if step["mark"] == "file" else f"block-{step['line']}.toml"
    Path(name).write_text(step["text"], encoding="utf-8")
    shell({**step, "language": "bash", "text": f"consilium plan {shlex.quote(name)}\n"}, job)


def main():
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    namespace = {"__name__": "__main__"}
    sys.path.insert(0, "")
    for step in job["steps"]:
        if step["mark"] == "file":
            Path(step["value"]).parent.mkdir(parents=True, exist_ok=True)
            Path(step["value"]).write_text(step["text"], encoding="utf-8")
        if step["language"] == "toml":
            toml(step, job)
        elif step["mark"] == "file":
            continue
        elif step["language"] == "python":
            python(step, job, namespace)
        else:
            shell(step, job)


if __name__ == "__main__":
    main()
