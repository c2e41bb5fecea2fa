"""What is left out of the data stands in the output, in study.json and on the page: by site, with its reason."""

import json

import numpy as np
import pytest

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
STUDY = """
name = "left-out"
threads = 1
model = "logistic"
federation = { kind = "fed-avg", rounds = 1 }

[data]
kind = "table"
path = "gaps.csv"
label = "y"
site = "ward"
sites = 2
partition = "by-key"
drop-missing = true
ranges = [["age", 0, 90], ["chol", 0, 400]]
categories = [["y", "0", "1"]]
"""


@pytest.fixture
def study(tmp_path):
    n = 200
    age = np.arange(n) % 100 + np.arange(n) / 1000  # every row differs
    chol = np.where((np.arange(n) < 100) & (np.arange(n) % 7 == 3) & (age < 90), np.nan, 100.0 + np.arange(n))
    frame = pd.DataFrame({"ward": ["a"] * 100 + ["b"] * 100, "age": age, "chol": chol, "y": np.arange(n) // 2 % 2})
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    (tmp_path / "s.toml").write_text(STUDY)
    return tmp_path


def counted(frame):
    return int(frame["chol"].isna().sum())


def test_output_evidence_and_page_say_it(study, consilium_cli):
    frame = pd.read_csv(study / "gaps.csv")
    kept = frame.dropna()
    lines = [
        f"{counted(frame)} rows with a gap (site a): 'chol' ({counted(frame)})",
        *(
            f"{int((part['age'] > 90).sum())} values of 'age' clipped to its declared range (site {ward})"
            for ward, part in kept.groupby("ward")
        ),
    ]
    plan = consilium_cli("plan", "s.toml", cwd=study)
    assert all(f"left out or clipped: {line}" in plan.out for line in lines)
    assert consilium_cli("plan", "s.toml", "--json", cwd=study).json["omitted"] == lines
    ran = consilium_cli("run", "s.toml", cwd=study)
    assert ran.code == 0 and all(f"left out or clipped: {line}" in ran.err for line in lines)
    folder = study / "out" / "left-out"
    omitted = json.loads((folder / "study.json").read_text())["data"]["omitted"]
    assert [(one["count"], one["site"]) for one in omitted] == [
        (counted(frame), "a"),
        *((int((part["age"] > 90).sum()), ward) for ward, part in kept.groupby("ward")),
    ]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Left out or clipped" in page and "clipped to its declared range" in page
