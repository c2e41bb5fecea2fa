"""A new attack of at most 60 lines, dropped into the package, is listed and runs in a study with no other edit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import consilium

ATTACK = '''"""Salt and pepper: random pixels become black or white, as many as the radius allows in l2.

Source: Brendel et al. 2018, Decision-Based Adversarial Attacks, arXiv 1712.04248 (its first step).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.attack.evasion._evasion import Evasion
from consilium.core.entry import check
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import Norm

__all__ = ["SaltPepper"]


@dataclass(frozen=True)
class SaltPepper(Evasion):
    """Sets random pixels to 0 or 1 and stays within the radius."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")

    radius: float = 0.5
    norm: Norm = "l2"
    share: float = 0.3

    def __post_init__(self) -> None:
        check(0 <= self.share <= 1, "share", self.share, "a share between 0 and 1")

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        chosen = torch.rand(x.shape, generator=generator) < self.share
        noise = (torch.rand(x.shape, generator=generator) < 0.5).to(x.dtype)
        return self.ball().project(torch.where(chosen, noise, x), x)
'''

STUDY = """
name = "dropped"
data = { kind = "breast-cancer", sites = 2 }
model = "logistic"
federation = { kind = "fed-avg", rounds = 2 }
attacks = [{ kind = "salt-pepper", share = 0.5 }]
"""


@pytest.fixture
def command(tmp_path):
    """The command line over a copy of the package with the file in it."""
    source = Path(consilium.__file__).parent
    shutil.copytree(source, tmp_path / "consilium", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "consilium" / "attack" / "evasion" / "salt_pepper.py").write_text(ATTACK, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-m", "consilium", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_it_is_listed_and_runs_in_a_study(command, tmp_path):
    assert len(ATTACK.splitlines()) <= 60
    (card,) = command("show", "salt-pepper", "--json")
    assert card["room"] == "attack/evasion" and card["knobs"]["share"] == 0.3 and card["source"]
    assert "salt-pepper" in {c["kind"] for c in command("list", "--json")}
    (tmp_path / "study.toml").write_text(STUDY)
    said = command("run", "study.toml", "--json")
    assert said["attacks_run"] == 1 and said["failed"] == {}
    evidence = json.loads(next((tmp_path / "out" / "dropped" / "cells").glob("*/evidence.json")).read_text())
    finding = evidence["findings"]["salt-pepper"]
    assert finding["status"] == "ok" and finding["configuration"]["share"] == 0.5
    assert "robust_accuracy:salt-pepper" in (tmp_path / "out" / "dropped" / "table.csv").read_text()
