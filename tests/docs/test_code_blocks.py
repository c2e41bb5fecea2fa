"""Every code block in the documentation runs.

The blocks of one page run in order, in one process and one empty folder (with the repository's ``studies/`` in it), as
a reader would run them; a command has a process of its own:

    python             run, all blocks of the page in one namespace
    bash, console      every command must be `consilium ...`, which is run; or `./scripts/NAME ...`, which must exist.
                       In a console block commands start with `$ ` and the other lines are output
    toml               parsed; what looks like a study (it has `name` and `data`) is planned

A comment on the line before a block says what else to do with it:

    <!-- file: NAME -->            write it to NAME first (and, unless it is toml, do not run it)
    <!-- exit: 2 -->               its commands must end with this code
    <!-- not run: REASON -->       do not run it; the reason is shown as a skipped test
"""

import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = {"python", "bash", "console", "sh", "shell", "toml"}
MARK = re.compile(r"^\s*<!--\s*(not run|file|exit)\s*:?\s*(.*?)\s*-->\s*$")
DRIVER = Path(__file__).with_name("page_driver.py")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    mark: str = ""
    value: str = ""


def blocks(text):
    """The fenced blocks of a page, each with the line its text starts on."""
    lines = iter(enumerate(text.splitlines(), 1))
    before = ""
    for _, line in lines:
        fence = re.match(r"^(\s*)(`{3,}|~{3,})\s*([\w+-]*)", line)
        if fence:
            indent, ticks, language = fence.groups()
            body, start = [], None
            for at, inner in lines:
                if inner.strip() == ticks:
                    break
                start = start or at
                body.append(inner.removeprefix(indent))
            mark, value = (MARK.match(before) or re.match("()()", "")).groups()
            yield Block(language.lower(), "\n".join(body) + "\n", start or 0, mark, value)
        before = line


@pytest.fixture
def run_page(consilium_cli, tmp_path):
    """``run_page(page)`` runs a page's blocks in a folder of its own: what it wrote, and its exit code."""
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    environment = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(page, text=None):
        page_blocks = blocks(text or page.read_text(encoding="utf-8"))
        steps = [asdict(b) for b in page_blocks if b.mark != "not run" and (b.language in RUN or b.mark == "file")]
        job = consilium_cli.folder / "page.json"
        job.write_text(json.dumps({"page": str(page), "root": str(ROOT), "steps": steps}), encoding="utf-8")
        return consilium_cli(job, program=DRIVER, cwd=tmp_path, env=environment)

    return run


@pytest.mark.parametrize("page", [p for p in PAGES if p.exists()], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_page_runs(page, run_page):
    if not any(b.language in RUN for b in blocks(page.read_text(encoding="utf-8"))):
        return
    done = run_page(page)
    assert done.code == 0, f"{done.out[-2000:]}\n{done.err[-4000:]}"


def not_run():
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")) if page.exists() else ():
            if block.mark == "not run":
                yield pytest.param(block.value, id=f"{page.relative_to(ROOT)}:{block.line}")


@pytest.mark.parametrize("reason", [*not_run()])
def test_a_block_that_is_not_run_says_why(reason):
    assert len(reason) > 5
    pytest.skip(f"not run: {reason}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nassert 1 == 2\n```", '"page.md", line 2'),
        ("```python\nx = 1\n```\ntext\n```python\nassert x == 2\n```", '"page.md", line 6'),
        ("```bash\ncurl example.org\n```", "page.md:2"),
        ("```console\n$ ./scripts/no-such-script\nout\n```", "no-such-script"),
        ("```toml\nname = \n```", "page.md:2"),
        ("```bash\nconsilium no-such-command\n```", "page.md:2"),
    ],
)
def test_a_block_that_fails_is_found(run_page, text, complaint):
    done = run_page(Path("page.md"), text)
    assert done.code != 0
    assert complaint in done.err


def test_blocks_run_in_order_in_one_folder(run_page):
    text = (
        "<!-- file: part.py -->\n```python\nVALUE = 3\n```\n"
        "1. In a list:\n\n   ```python\n   import part\n   kept = part.VALUE\n   ```\n\n"
        "```python\nassert kept == 3\n```\n"
        "<!-- not run: needs a planet -->\n```bash\nlaunch\n```\n"
        "```text\nnot code\n```\n"
        "```console\n$ ./scripts/test\n3 passed\n```\n"
    )
    done = run_page(Path("page.md"), text)
    assert done.code == 0, done.err


STUDY = """name = "small"
seeds = [0]
data = { kind = "digits", sites = 2, partition = "iid" }
model = { kind = "logistic" }
federation = { kind = "fed-avg", rounds = 1 }
"""


def test_a_study_is_planned_and_a_wrong_one_is_found(run_page):
    right = (
        f"<!-- file: small.toml -->\n```toml\n{STUDY}```\n```console\n$ consilium plan small.toml --json\nmuch\n```\n"
    )
    done = run_page(Path("page.md"), right)
    assert done.code == 0, done.err
    assert '"arms"' in done.out
    done = run_page(Path("page.md"), f"```toml\n{STUDY}modle = 1\n```\n")
    assert done.code != 0
    assert "ended with 2" in done.err
    done = run_page(Path("page.md"), f"<!-- exit: 2 -->\n```toml\n{STUDY}modle = 1\n```\n")
    assert done.code == 0, done.err
