"""Attacks and defences in files beside the study: found, hashed, run everywhere, and blamed by name and line."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import consilium
from consilium import Results, Study
from consilium.core.errors import ConsiliumError, Refused
from consilium.deploy.protocol.description import describe, understand
from consilium.federate.engines.pool import why_no_fork
from consilium.study.executors.distributed.folder import prepared_in
from consilium.study.executors.distributed.worker import work_in

NUDGE = """
from dataclasses import dataclass
from typing import ClassVar

from consilium.attack.evasion._evasion import Evasion
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.ball import Norm

from amounts import SHARE


@dataclass(frozen=True)
class Nudge(Evasion):
    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")

    radius: float = 0.03
    norm: Norm = "linf"
    upwards: bool = True

    def follows(self, view):
        return view.module

    def craft(self, view, x, y, generator):
        return self.ball().project((x + self.radius * SHARE * (1 if self.upwards else -1)).clamp(0, 1), x)
"""
FLIPPED = """
from dataclasses import dataclass

from consilium.core.defence import AnswerDefence


@dataclass(frozen=True)
class Flipped(AnswerDefence):
    def answer(self, probabilities):
        return 1 - probabilities

    def surrogate(self, before):
        return None
"""
STUDY = """
name = "own"
threads = 1
data = { kind = "breast-cancer", sites = 2 }
model = "logistic"
federation = { kind = "fed-sgd", rounds = 1 }
[vary]
answer = [{ path = "flipped:Flipped", allow-code = true }]
[[attacks]]
path = "nudge:Nudge"
allow-code = true
radius = 0.05
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder with a study and its files; the current folder is another one."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "nudge.py").write_text(NUDGE.lstrip())
    (home / "amounts.py").write_text("SHARE = 1.0\n")
    (home / "flipped.py").write_text(FLIPPED)
    (home / "study.toml").write_text(STUDY)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return home


def run(home, out, **how):
    return Study.read(home / "study.toml").run(out, quiet=True, **{"executor": "serial", **how})


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def findings(results):
    return {c.arm: c.evidence.attacks[0].measure("robust_accuracy").value for c in results.cells}


def test_they_run_and_are_run_again_when_they_change(beside, tmp_path):
    first = run(beside, tmp_path)
    assert first.outcome.attacks_run == 2 and not first.outcome.failed
    assert [c.arm for c in first.cells] == ["none", "flipped"]
    assert "robust_accuracy:nudge" in (first.folder / "table.csv").read_text()
    assert run(beside, tmp_path).outcome.attacks_run == 0
    edit(beside / "nudge.py", "self.radius * SHARE", "self.radius * SHARE * 0.5")
    assert run(beside, tmp_path).outcome.attacks_run == 2
    edit(beside / "amounts.py", "1.0", "0.0")  # what it imports from its folder
    third = run(beside, tmp_path)
    assert third.outcome.attacks_run == 2 and third.outcome.trained == 0
    accuracy = {c.arm: c.evidence.utility[0].value for c in third.cells}
    assert findings(third)["none"] == accuracy["none"]  # it changes nothing, and that is what is found
    assert findings(third) != findings(first)


def test_a_changed_defence_is_another_model(beside, tmp_path):
    run(beside, tmp_path)
    edit(beside / "flipped.py", "1 - probabilities", "probabilities")
    again = run(beside, tmp_path)
    assert again.outcome.trained == 0 and again.outcome.attacks_run == 1
    assert len({c.evidence.utility[0].value for c in again.cells}) == 1


def test_its_digest_does_not_depend_on_the_folder(beside, tmp_path):
    plans = [Study.read(beside / "study.toml").plan()]
    shutil.copytree(beside, tmp_path / "moved")
    plans.append(Study.read(tmp_path / "moved" / "study.toml").plan())
    assert [c.digest for c in plans[0].cells] == [c.digest for c in plans[1].cells]
    assert plans[0].spec.attacks[0].attack.configuration() == plans[1].spec.attacks[0].attack.configuration()


@pytest.mark.skipif(why_no_fork() is not None, reason="no processes here")
def test_processes_find_the_same(beside, tmp_path):
    one, two = run(beside, tmp_path / "a"), run(beside, tmp_path / "b", executor="processes", workers=2)
    assert findings(one) == findings(two) and not two.outcome.failed


def test_a_worker_elsewhere_takes_the_copy(beside, tmp_path):
    here = findings(run(beside, tmp_path / "here"))
    folder, _ = Study.read(beside / "study.toml").prepare(tmp_path / "out")
    shutil.rmtree(beside)
    done = work_in(folder, quiet=True)
    assert done.outcome.attacks_run == 2 and not done.outcome.failed
    assert findings(Results.read(folder)) == here


def test_a_worker_refuses_a_copy_that_was_changed(beside, tmp_path):
    folder, _ = Study.read(beside / "study.toml").prepare(tmp_path / "out")
    copy = next((folder / "code").glob("*/nudge.py"))
    copy.write_text(copy.read_text() + "\n")
    shutil.rmtree(beside)
    with pytest.raises(Refused, match=r"attacks\[0\].path: nudge.py is not the file that was used"):
        prepared_in(folder)


def test_a_model_behind_own_code_is_loaded_with_leave(beside, tmp_path):
    results = run(beside, tmp_path)
    shutil.rmtree(beside)
    plain, flipped = (c.folder for c in results.cells)
    consilium.load(plain)
    with pytest.raises(Refused, match=r"loading this model runs the code of flipped:Flipped\. Pass allow_code=True"):
        consilium.load(flipped)
    test = consilium.test_set(plain)
    models = [consilium.load(cell, allow_code=True) for cell in (plain, flipped)]
    assert (models[0](test.x).argmax(1) != models[1](test.x).argmax(1)).all()


def refusal(home):
    with pytest.raises(ConsiliumError) as caught:
        Study.read(home / "study.toml")
    return str(caught.value)


def line_of(path, text):
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_a_missing_parameter_is_the_file_s(beside):
    edit(beside / "nudge.py", '    norm: Norm = "linf"\n', "")
    number = line_of(beside / "nudge.py", "@dataclass")
    assert refusal(beside) == (
        f"attacks[0].path: nudge.py, line {number}: an evasion attack needs the parameters norm and radius. "
        "Give norm a default too: norm: AnyNorm = VALUE in the class."
    )


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("SHARE\n\n", "SHARE\n\n1 / 0\n", "nudge.py, line 10: ZeroDivisionError: division by zero"),
        ("class Nudge(Evasion):", "class Nudge(Evasion)", r"nudge.py, line \d+: expected ':'"),
        ("from amounts import SHARE", "from amount import SHARE", "nudge.py, line 8: ModuleNotFoundError"),
        ("@dataclass(frozen=True)\n", "", "Nudge in nudge.py is no dataclass"),
        ("class Nudge(Evasion)", "class Nudge", "Nudge in nudge.py is no Attack"),
        ("class Nudge(", "class Other(", "nudge.py defines no class Nudge"),
        ("    def craft(", "    def crft(", "nudge.py: TypeError: Can't instantiate abstract class Nudge"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_of_it(beside, before, after, line):
    edit(beside / "nudge.py", before, after)
    text = refusal(beside)
    assert text.startswith("attacks[0]") and "defect" not in text
    assert re.search(line, text), text


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("radius = 0.05", "radius = 0.05\nstep = 3", "attacks[0].step: nudge has no knob 'step'"),
        ("radius = 0.05", 'radius = "much"', "attacks[0].radius: 'much' is not a valid number"),
        ("allow-code = true\nradius", "radius", "attacks[0].allow-code: 'nudge:Nudge' would run code that is not"),
        ("nudge:Nudge", "nudges:Nudge", "attacks[0].path: there is no nudges.py in"),
        ("nudge:Nudge", "nudge.py", "attacks[0].path: 'nudge.py' names no class in a file"),
        ("nudge:Nudge", "flipped:Flipped", "attacks[0].path: Flipped in flipped.py is no Attack"),
    ],
)
def test_a_wrong_table_is_refused(beside, before, after, line):
    edit(beside / "study.toml", before, after)
    assert refusal(beside).startswith(line)


def test_a_built_in_name_is_refused(beside):
    shutil.move(beside / "nudge.py", beside / "pgd.py")
    edit(beside / "study.toml", "nudge:Nudge", "pgd:Nudge")
    assert "pgd.py makes 'pgd', which Consilium has already. Give the file another name" in refusal(beside)


def test_what_fails_in_a_run_names_file_and_line(beside, tmp_path):
    edit(beside / "nudge.py", "self.upwards", "self.upward")
    number = line_of(beside / "nudge.py", "self.upward ")
    failed = run(beside, tmp_path).outcome.failed
    assert len(failed) == 2
    for text in failed.values():
        assert text == f"nudge: AttributeError: 'Nudge' object has no attribute 'upward' (nudge.py:{number})"


def test_an_object_of_an_own_class_is_its_table(beside, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(beside))
    nudge = __import__("nudge").Nudge(radius=0.05)
    try:
        tables = Study.read(beside / "study.toml").table()
        plan = Study.of({**tables, "attacks": [nudge]}, beside).plan()
        wanted = Study.read(beside / "study.toml").plan()
        assert plan.spec.attacks[0].attack.configuration() == wanted.spec.attacks[0].attack.configuration()
    finally:
        for name in ("nudge", "amounts"):
            sys.modules.pop(name, None)


def test_a_site_runs_no_code_of_a_server(beside):
    plan = Study.read(beside / "study.toml").plan()
    node = next(iter(plan.trainings.values()))
    data = plan.materials.consortium(0)
    with pytest.raises(Refused, match="is a file of the study's author, and a deployment runs installed code only"):
        describe(node.spec, node.arm, 0, node.digest, data, [site.id for site in data.sites])


def test_a_site_imports_nothing_that_a_server_names(beside):
    tables = Study.read(beside / "study.toml").table()
    plain = Study.of({k: v for k, v in tables.items() if k not in ("vary", "attacks")}).plan()
    node, data = next(iter(plain.trainings.values())), plain.materials.consortium(0)
    request = describe(node.spec, node.arm, 0, node.digest, data, [site.id for site in data.sites])
    (beside / "trap.py").write_text(f"open({str(beside / 'sprung')!r}, 'w')\n")
    trap = {"answer": [{"path": "trap:Trap", "allow-code": True}]}
    hostile = replace(request, plan={**request.plan, "tables": {**request.plan["tables"], "vary": trap}})
    sys.path.insert(0, str(beside))
    try:
        with pytest.raises(Refused, match="a site runs installed code only"):
            understand(hostile)
    finally:
        sys.path.remove(str(beside))
    assert not Path(beside / "sprung").exists()


def test_evidence_has_the_digest_and_no_folder(beside, tmp_path):
    results = run(beside, tmp_path / "out")
    record = json.loads((results.cells[0].folder / "evidence.json").read_text())
    configuration = record["findings"]["nudge"]["configuration"]
    assert configuration["path"] == "nudge:Nudge" and len(configuration["sha256"]) == 64
    assert str(beside) not in json.dumps(record)
