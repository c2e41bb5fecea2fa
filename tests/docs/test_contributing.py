"""The two entries on the contributing pages work as they stand: dropped in, nothing else edited."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "how-to" / "add-a-defence.md")
ATTACK, DEFENCE = "src/consilium/attack/evasion/random_corner.py", "src/consilium/defend/answer/label_only.py"


def block(path):
    page = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    return page.split(f"<!-- file: {path} -->\n```python\n")[1].split("```\n")[0]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the source with both files in it."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ATTACK, DEFENCE):
        (root / path).write_text(block(path), encoding="utf-8")
    return root


def python(tree, *words):
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=tree, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_they_are_listed(tree):
    code = "import json\nfrom consilium.core.catalogue import cards\nprint(json.dumps([c.to_json() for c in cards()]))"
    cards = {card["kind"]: card for card in json.loads(python(tree, "-c", code))}
    goals = {"goal": "misclassification", "target": None, "source": None, "confidence": 0.5}  # of every evasion attack
    assert cards["random-corner"]["knobs"] == {"radius": 0.03, "norm": "linf", "tries": 20, **goals}
    assert cards["random-corner"]["role"] == "evasion"
    assert cards["label-only"]["role"] == "answer"
    assert cards["label-only"]["doc"] and cards["label-only"]["source"]


def test_the_attack_finds_what_is_there_and_nothing_else(tree):
    """On a linear model in two inputs a corner of the ball is optimal: it must break exactly what can be broken."""
    python(
        tree,
        "-c",
        """
import torch
from consilium.learn.tasks.single_label import SingleLabel
from consilium.core.catalogue import find, load_entry
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.threat import ModelView

x = torch.tensor([[.50, .49], [.50, .30], [.49, .50]])
y = torch.tensor([0, 0, 1])
records = Records.of(x, y)
attack = load_entry(find("random-corner", "attack/evasion"))(radius=.02)
linear = torch.nn.Linear(2, 2, bias=False)
linear.weight.data = torch.eye(2)
view = ModelView(2, linear, None, records, task=SingleLabel())
found = attack(view, {}, Stream(0).generator())
assert found.scores["correct"].tolist() == [False, True, False]
assert found["robust_accuracy"].value == 1 / 3

constant = torch.nn.Linear(2, 2)
constant.weight.data.zero_()
before = constant(x).argmax(1)
found = attack(ModelView(2, constant, None, Records.of(x, before), task=SingleLabel()), {}, Stream(0).generator())
assert found["robust_accuracy"].value == 1
""",
    )


def test_the_defence_answers_the_label(tree):
    python(
        tree,
        "-c",
        """
import torch
from consilium.core.catalogue import find, load_entry

defence = load_entry(find("label-only", "defend/answer"))()
assert defence.answer(torch.tensor([[.2, .5, .3], [.9, .1, 0.]])).tolist() == [[0, 1, 0], [1, 0, 0]]
""",
    )


def test_they_keep_the_house_rules(tree):
    """What a reader copies would pass the linters."""
    config = ["--config", str(ROOT / "pyproject.toml")]
    files = [ATTACK, DEFENCE]
    python(tree, "-m", "ruff", "check", *config, *files)
    python(tree, "-m", "ruff", "format", "--check", *config, *files)
    for path in files:
        assert len(block(path).splitlines()) <= 60


@pytest.mark.skipif(not list((ROOT / "tests/contracts").glob("test_*.py")), reason="there is no contract suite yet")
def test_the_contract_suite_covers_them(tree):
    """The suite finds them by itself, and they pass."""
    ask = ["-m", "pytest", str(ROOT / "tests/contracts"), "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider"]
    said = python(tree, *ask, "-rp", "-k", "random-corner or label-only")
    for name in ("random-corner", "label-only"):
        assert re.search(rf"PASSED .*{name}", said), said
