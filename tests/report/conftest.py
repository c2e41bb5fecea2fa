import json
import runpy
import shutil
from pathlib import Path

import pytest

from consilium.report.load.read import read_study
from consilium.report.render.page import write_page

synthetic = runpy.run_path(str(Path(__file__).with_name("synthetic.py")))


@pytest.fixture(scope="session")
def write_study():
    return synthetic["write_study"]


@pytest.fixture(scope="session")
def injected():
    return synthetic["INJECTED"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A study of two seeds with every kind of trouble; tests read it and leave it as it is."""
    return synthetic["write_study"](tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="session")
def study(folder):
    return read_study(folder)


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory):
    return read_study(synthetic["write_study"](tmp_path_factory.mktemp("single"), seeds=(0,), trouble=False))


@pytest.fixture(scope="session")
def flagged(one_seed, tmp_path_factory):
    """One clean model has a red flag; every model was attacked at a second radius; the defences say what they do."""
    home = shutil.copytree(one_seed.folder, tmp_path_factory.mktemp("flagged") / "study")
    for path in home.glob("cells/*/evidence.json"):
        evidence = json.loads(path.read_text())
        findings, cell = evidence["findings"], evidence["cell"]
        if (cell["arm"], cell["infected_by"]) == ("adversarial-training", "none"):
            flag = "masking, black box: a search by 500 answers fools 9 of 90 <b>records</b> that gradients do not."
            findings["pgd"]["notes"] = [f"Red flag: {flag}", "masking, loss: fine."]
        far = {**findings["pgd"]["configuration"], "radius": 0.2}
        findings["pgd-far"] = {**findings["pgd"], "configuration": far, "notes": []}
        path.write_text(json.dumps(evidence))
    study = json.loads((home / "study.json").read_text())
    study["defences"] = [
        {"axis": axis, "label": label, "kind": label, "phase": "in-training", "mitigates": [risk], "uses": used}
        for axis, label, risk, used in (
            ("privacy", "dp-sgd", "membership", ["evasion"]), ("robustness", "adversarial-training", "evasion", []),
        )
    ]  # fmt: skip
    (home / "study.json").write_text(json.dumps(study))
    return home


@pytest.fixture(scope="session")
def flagged_page(flagged):
    return write_page(flagged).read_text(encoding="utf-8")
