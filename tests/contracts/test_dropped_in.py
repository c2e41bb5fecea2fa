"""A new attack file dropped into a copy of the package is listed and covered, with no other edit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import consilium

HERE = Path(__file__).parent
KIND = "coordinate-search"
ATTACK = '''"""Coordinate search: moves one pixel after another by the whole radius and keeps what the model likes less.

It asks for answers only and follows no gradient.

Source: Guo et al. 2019, Simple Black-box Adversarial Attacks, arXiv 1905.07121.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from consilium.attack.evasion._evasion import Evasion
from consilium.core.entry import check
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import Norm

__all__ = ["CoordinateSearch"]


@dataclass(frozen=True)
class CoordinateSearch(Evasion):
    """Moves one pixel at a time and keeps what raises the loss."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")

    radius: float = 0.03
    norm: Norm = "linf"
    pixels: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.pixels >= 1, "pixels", self.pixels, "at least 1")

    def follows(self, view: ModelView) -> nn.Module | None:
        return view.module

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        worst, highest = x, cross_entropy(view.module(x), y, reduction="none").detach()
        for pixel in torch.randperm(x[0].numel(), generator=generator)[: self.pixels]:
            for way in (-self.radius, self.radius):
                moved = worst.flatten(1).clone()
                moved[:, pixel] += way
                tried = self.ball().project(moved.view_as(x), x)
                losses = cross_entropy(view.module(tried), y, reduction="none").detach()
                better = losses > highest
                worst = torch.where(better.view(-1, *[1] * (x.dim() - 1)), tried, worst)
                highest = torch.maximum(losses, highest)
        return worst
'''


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the package with the new file in it: the first import path of ``python(tree, ...)``."""
    root = tmp_path_factory.mktemp("dropped")
    shutil.copytree(
        Path(consilium.__file__).parent, root / "consilium", ignore=shutil.ignore_patterns("__pycache__")
    )  # fmt: skip
    (root / "consilium/attack/evasion/coordinate_search.py").write_text(ATTACK, encoding="utf-8")
    return root


def python(tree, *words):
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=tree, capture_output=True, text=True, timeout=600, check=False
    )


def contracts(tree):
    """The evasion contract over the copy, for the new attack alone."""
    suite = HERE / "test_evasion_contracts.py"
    options = ["-p", "no:cacheprovider", "-c", str(HERE.parents[1] / "pyproject.toml"), "-k", f"[{KIND}-"]
    return python(tree, "-m", "pytest", str(suite), *options)


def test_it_is_short():
    assert len(ATTACK.splitlines()) <= 60


def test_it_is_listed(tree):
    code = "import json\nfrom consilium.core.catalogue import find\n" + (
        f"card = find({KIND!r}, 'attack/evasion')\nprint(json.dumps([card.to_json(), card.module]))"
    )
    card, module = json.loads(python(tree, "-c", code).stdout)
    assert card["role"] == "evasion" and card["doc"] and card["source"]
    goals = {"goal": "misclassification", "target": None, "source": None, "confidence": 0.5}  # of every evasion attack
    assert card["knobs"] == {"radius": 0.03, "norm": "linf", "pixels": 32, **goals}
    assert module == "consilium.attack.evasion.coordinate_search"


def test_the_contract_suite_covers_it(tree):
    done = contracts(tree)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "10 passed" in done.stdout, done.stdout


def test_one_that_breaks_its_word_does_not_pass(tree):
    """Without the projection it leaves [0, 1], and at a pixel's edge its budget is not kept."""
    path = tree / "consilium/attack/evasion/coordinate_search.py"
    path.write_text(ATTACK.replace("self.ball().project(moved.view_as(x), x)", "moved.view_as(x)"))
    try:
        done = contracts(tree)
    finally:
        path.write_text(ATTACK)
    assert done.returncode == 1 and "honours_its_budget" in done.stdout, done.stdout[-3000:]
