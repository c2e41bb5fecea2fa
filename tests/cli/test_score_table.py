"""Where accuracy is not the score, the terminal heads with the score, by its name, and says when an answer is right."""

import numpy as np
import pytest

from consilium import Results, Study
from consilium.cli.folder_view import print_study
from consilium.cli.score_table import score_table
from consilium.report.load.numbers import number

REGRESSION = {"kind": "regression", "low": 0.0, "high": 10.0, "tolerance": 1.25}


@pytest.fixture
def ran(tmp_path):
    def run(y, task):
        data = {"x": np.random.default_rng(0).random((240, 4), "float32"), "y": y, "task": task, "sites": 2}
        federation = {"kind": "fed-avg", "rounds": 1, "lr": 0.5}
        return Study(name="scores", data=data, model="logistic", federation=federation, options={"threads": 1}).run(
            tmp_path, quiet=True, executor="serial"
        )

    return run


def test_the_terminal_heads_with_the_score_of_the_task(ran, capsys):
    results = ran(10 * np.random.default_rng(0).random((240, 4), "float32").mean(1), REGRESSION)
    print_study(results.folder)
    out = " ".join(capsys.readouterr().out.split())
    r2 = next(m for m in Results.read(results.folder).cells[0].evidence.utility if m.name == "r2")
    assert out.index("models are first read by R2") < out.index("ε")
    assert number(r2.value, "plain") in out and "tolerance=1.25" in out.replace(" ", "")


def test_accuracy_has_no_table_of_its_own(ran):
    assert score_table(ran(np.arange(240) % 2, "single-label").folder) is None
