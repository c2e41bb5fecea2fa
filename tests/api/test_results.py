"""Results for people: what they show is what the evidence says, in the notebook, the frame and the figures."""

import csv
import json
import math
import sys

import pytest
import torch

import consilium
from consilium import Results, Study
from consilium.core.errors import MissingExtra, Refused

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two arms, clean and infected, attacked: run once."""
    study = Study(
        name="short",
        data={"kind": "breast-cancer", "sites": 2},
        model="logistic",
        federation={"kind": "fed-sgd", "rounds": 1},
        vary={"seed": [{"kind": "round-answer", "digits": 1}]},  # an axis that is called as a column
        attacks=[{"kind": "fgsm", "radius": 0.05}, {"kind": "loss-threshold"}],
        corruptions=[{"kind": "label-flip", "share": 0.5}],
        options={"threads": 1},
    )
    return study.run(tmp_path_factory.mktemp("out"), quiet=True, executor="serial")


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_long_table_is_the_evidence(results):
    frame = results.table()
    assert list(frame.columns) == [
        *("arm", "axis:seed", "seed", "infected_by", "measure", "value", "low", "high", "n", "chance")
    ]
    for cell in results.cells:
        record = json.loads((cell.folder / "evidence.json").read_text())
        own = frame[(frame.arm == cell.arm) & (frame.infected_by == cell.infected_by)].set_index("measure")
        measures = {m["name"]: m for m in [*record["utility"], *record["cost"], *record["mediators"]]}
        found = record["findings"]
        measures |= {f"{m['name']}:fgsm": m for m in found["fgsm"]["measures"]}
        measures |= {f"mia_{m['name']}:loss-threshold": m for m in found["loss-threshold"]["measures"]}
        assert len(measures) > 20 and set(measures) <= set(own.index)
        for name, measure in measures.items():
            for part in ("value", "low", "high", "n", "chance"):
                value = own.loc[name, part]
                assert math.isnan(value) if measure[part] is None else value == measure[part], (name, part)


def test_the_long_table_and_the_file_agree(results):
    frame = results.table().set_index(["arm", "infected_by", "measure"])
    table = rows(results.folder / "table.csv")
    assert len(table) == 4 and {row["axis:seed"] for row in table} == {"none", "round-answer"}
    compared = 0
    for row in table:
        for name in row:
            if (row["arm"], row["infected_by"], name) not in frame.index:
                continue
            for part, column in (("value", name), ("low", f"{name}_low"), ("high", f"{name}_high"), ("n", f"{name}_n")):
                value = frame.loc[(row["arm"], row["infected_by"], name), part]
                if row.get(column):
                    assert float(row[column]) == value, column
                    compared += 1
                elif column in row and part != "n":
                    assert math.isnan(value), column
    assert compared > 60


def test_a_run_writes_what_the_command_writes(results):
    assert "<html" in (results.folder / "report.html").read_text()[:500]
    head = next(iter(rows(results.folder / "table.csv")))
    assert {"accuracy", "accuracy_low", "accuracy_high", "accuracy_n"} <= set(head)
    assert "seconds_low" not in head  # nobody has an interval of it


def test_a_cell_has_its_model_and_its_records(results):
    for cell in results.cells:
        assert all(
            torch.equal(a, b)
            for a, b in zip(cell.model.parameters(), consilium.load(cell.folder).parameters(), strict=True)
        )
        assert torch.equal(cell.test.x, consilium.test_set(cell.folder).x) and cell.model is cell.model
        right = (cell.model(cell.test.x).argmax(1) == cell.test.y).double().mean()
        assert abs(float(right) - next(m.value for m in cell.evidence.utility if m.name == "accuracy")) < 1e-12


def test_an_earlier_run_is_read(results):
    again = Results.read(results.folder)
    assert again.plan is None and again.table().equals(results.table())
    with pytest.raises(Refused, match=r"study\.json"):
        Results.read(results.folder.parent)


def test_what_is_printed_is_one_line(results, folder):
    for text in (repr(results), repr(results.cells[-1]), repr(Results.read(folder)), repr(Results(folder / "gone"))):
        assert len(text.splitlines()) == 1 and len(text) < 300
    assert "\n" not in repr(results.plan) and len(repr(results.plan)) < 200 and "2 arms" in repr(results.plan)
    assert len(repr(results.cells[0].evidence)) < 1500
    assert repr(results).endswith("short: 2 arms; 4 cells (4 ok))")
    assert "1 refused" in repr(Results.read(folder)) and "failed" in repr(Results.read(folder))


def test_the_notebook_table_is_escaped_and_has_every_arm(results, folder, injected):
    text = Results.read(folder)._repr_html_()
    assert injected not in text and "<script" not in text
    assert text.count("<tr>") > 9 and results._repr_html_().count("<tr>") == 5  # a head and 4 rows
    accuracy = next(m.value for m in results.cells[0].evidence.utility if m.name == "accuracy")
    assert f"{accuracy:.3f}" in results._repr_html_()


def test_a_study_in_trouble_has_a_frame(folder):
    results = Results.read(folder)
    frame = results.table()
    judged = {(c.arm, c.seed, c.infected_by) for c in results.cells if c.evidence.judged}
    assert set(zip(frame.arm, frame.seed, frame.infected_by, strict=True)) == judged
    assert len(judged) < len(results.cells)
    assert not frame.duplicated(["arm", "seed", "infected_by", "measure"]).any()


def test_without_pandas_it_is_refused_by_name(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"Results.table needs pandas. pip install consilium\[notebook\]"):
        results.table()
