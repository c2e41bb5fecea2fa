"""One changed byte, or a file of another arm, is refused by name or made again, and never used in silence."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import consilium
from consilium import Study
from consilium.core.errors import Failed, Refused
from consilium.core.seal import is_altered, sealed
from consilium.federate.checkpoint import load_checkpoint
from consilium.report.load.read import read_study
from consilium.study.evaluate.seals import recipe_of
from consilium.study.plan.stage_keys import digest
from consilium.study.store.store import Store, is_trained


@pytest.fixture
def study(tables):
    """Two arms, clean only, two attacks."""
    del tables["vary"]["robustness"], tables["vary"]["compression"], tables["attacks"][1]
    return {**tables, "corruptions": []}


@pytest.fixture
def folder(study, finished, tmp_path):
    return finished(study, tmp_path) / "tiny"


def run(study, folder):
    outcome = Study.of(study).run(folder.parent, quiet=True).outcome
    return outcome, cells(folder)


def cells(folder):
    found = [json.loads(path.read_text()) for path in folder.glob("cells/*/evidence.json")]
    return {e["cell"]["arm"]: e for e in found}


def home(folder, arm):
    return folder / "cells" / cells(folder)[arm]["cell"]["digest"]


def model(folder, arm):
    return folder / "models" / cells(folder)[arm]["model"]


def checkpoint(folder, arm):
    return folder / "trainings" / cells(folder)[arm]["training"] / "checkpoint.safetensors"


def flip(path):
    """One bit of the last byte: the exponent of a weight."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def figures(evidence):
    return evidence["utility"], evidence["privacy"], {n: f["measures"] for n, f in evidence["findings"].items()}


def test_every_record_of_a_run_holds_its_seal(folder, study):
    records = [json.loads(p.read_text()) for p in folder.rglob("*.json")]
    assert len(records) == 1 + 2 + 2 + 2 + 2 and all("seal" in r and not is_altered(r) for r in records)
    top = json.loads((folder / "study.json").read_text())
    assert {c["digest"]: c["seal"] for c in top["cells"]} == {
        e["cell"]["digest"]: e["seal"] for e in cells(folder).values()
    }
    before = {path: path.read_bytes() for path in folder.glob("cells/*/*")}
    outcome, _ = run(study, folder)
    assert (outcome.trained, outcome.attacks_run, outcome.failed) == (0, 0, {})
    assert before == {path: path.read_bytes() for path in folder.glob("cells/*/*")}


def test_a_byte_of_a_model_is_noticed_by_load_and_by_a_run_without_work(folder, study):
    path = model(folder, "none") / "model.safetensors"
    whole = path.read_bytes()
    consilium.load(home(folder, "none"))
    flip(path)
    with pytest.raises(Refused, match="is not the model that was stored and judged") as caught:
        consilium.load(home(folder, "none"))
    assert str(path) in str(caught.value) and "Delete it and run the study again" in str(caught.value)
    outcome, found = run(study, folder)
    assert list(outcome.failed) == ["none (seed 0)"] and found["dp-sgd"]["status"] == "ok"
    assert f"{path} is not the model that was stored. Delete it to store that model again" in found["none"]["error"]
    path.unlink()
    outcome, found = run(study, folder)
    assert not outcome.failed and path.read_bytes() == whole and outcome.attacks_run == 0
    consilium.load(home(folder, "none"))


@pytest.mark.parametrize("emptied", [b"", b"\0" * 100])
def test_a_model_that_was_cut_is_noticed_by_a_run_without_work(folder, study, emptied):
    (model(folder, "none") / "model.safetensors").write_bytes(emptied)
    outcome, _ = run(study, folder)
    assert list(outcome.failed) == ["none (seed 0)"]


def test_a_recipe_that_was_changed_builds_no_other_model(folder, study):
    path = model(folder, "none") / "recipe.json"
    edit(path, lambda recipe: recipe.update(answers=[{"kind": "round-answer"}]))
    with pytest.raises(Refused, match=r"recipe.json is that of another model, or was changed"):
        consilium.load(home(folder, "none"))
    outcome, _ = run(study, folder)
    assert not outcome.failed and not is_altered(json.loads(path.read_text()))
    consilium.load(home(folder, "none"))


def test_another_model_with_a_recipe_of_its_own_is_not_the_one_that_was_judged(folder, study):
    """File and recipe agree with each other, and not with the evidence."""
    ours, theirs = model(folder, "dp-sgd"), model(folder, "none")
    shutil.copy(theirs / "model.safetensors", ours)
    other = json.loads((theirs / "recipe.json").read_text())["sha256"]
    recipe = json.loads((ours / "recipe.json").read_text())
    (ours / "recipe.json").write_text(json.dumps(sealed({**recipe, "sha256": other})))
    with pytest.raises(Refused, match="is not the model that was stored and judged"):
        consilium.load(home(folder, "dp-sgd"))
    outcome, found = run(study, folder)
    assert list(outcome.failed) == ["dp-sgd (seed 0)"]
    assert "is not the one that was judged" in found["dp-sgd"]["error"]


def test_a_byte_of_a_checkpoint_is_noticed_and_no_model_is_made_of_it(folder, study):
    path, whole = checkpoint(folder, "none"), checkpoint(folder, "none").read_bytes()
    flip(path)
    shutil.rmtree(folder / "models")
    outcome, found = run(study, folder)
    assert list(outcome.failed) == ["none (seed 0)"]
    assert f"{path} was changed after it was written" in found["none"]["error"]
    assert "Delete it to train again" in found["none"]["error"]
    assert not (model(folder, "none") / "model.safetensors").exists()
    with pytest.raises(Failed, match="its seal does not hold"):
        load_checkpoint(path)
    path.unlink()
    outcome, found = run(study, folder)
    assert (outcome.trained, outcome.failed) == (1, {}) and path.read_bytes() == whole


def test_weights_without_noise_carry_no_claim(folder, study):
    """The non-private arm's weights, or its whole file, as the checkpoint of the private arm."""
    ours, theirs = checkpoint(folder, "dp-sgd"), checkpoint(folder, "none")
    with safe_open(ours, framework="pt") as mine, safe_open(theirs, framework="pt") as other:
        names = list(mine.keys())
        tensors = {n: (other if n.startswith("server/") else mine).get_tensor(n) for n in names}
        about = mine.metadata()
    mixed, swapped = folder.parent / "mixed", theirs.read_bytes()
    save_file(tensors, mixed, about)
    for content, why in ((mixed.read_bytes(), "its seal does not hold"), (swapped, "is of training")):
        for done in (True, False):
            other = folder.parent / f"{why} {done}" / "tiny"
            shutil.copytree(folder, other)
            path = checkpoint(other, "dp-sgd")
            path.write_bytes(content)
            if not done:  # as of a run that was killed: only the checkpoint itself can tell
                path.with_name("training.json").unlink()
            for name in ("models", "cells"):
                shutil.rmtree(other / name)
            outcome, found = run(study, other)
            assert list(outcome.failed) == ["dp-sgd (seed 0)"], (why, done)
            assert why in found["dp-sgd"]["error"] and found["dp-sgd"]["privacy"]["epsilon"] is None


def test_a_finished_training_keeps_its_own_end(folder, study):
    """A checkpoint that is sealed, of the right training, and not the one that the training ended with."""
    from consilium.core.seal import unsealed
    from consilium.core.sealed_tensors import write_sealed

    path = checkpoint(folder, "none")
    with safe_open(path, framework="pt") as file:
        about, tensors = json.loads(file.metadata()["about"]), {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    about = {name: value for name, value in unsealed(about).items() if name != "tensors"}
    write_sealed(path, {**tensors, "server/params": torch.zeros_like(tensors["server/params"])}, about)
    outcome, found = run(study, folder)
    assert list(outcome.failed) == ["none (seed 0)"]
    assert f"checkpoint {path} is not the one that its training ended with" in found["none"]["error"]


def test_figures_that_were_typed_over_are_measured_again(folder, study, capsys):
    before = cells(folder)
    path = home(folder, "dp-sgd") / "evidence.json"

    def better(evidence):
        evidence["privacy"]["epsilon"] = 0.1
        evidence["utility"][0]["value"] = 0.999

    edit(path, better)
    with pytest.raises(Refused, match=r"evidence.json was changed after it was written"):
        consilium.load(path.parent)
    outcome = Study.of(study).run(folder.parent).outcome
    assert f"{path} was changed after it was written: it is made again" in capsys.readouterr().err
    assert (outcome.trained, outcome.attacks_run, outcome.attacks_reused) == (0, 2, 2)
    assert figures(cells(folder)["dp-sgd"]) == figures(before["dp-sgd"])


def test_evidence_without_the_seal_that_the_study_knows_is_made_again(folder, study):
    before = cells(folder)

    def stripped(evidence):
        evidence["utility"][0]["value"] = 0.999
        del evidence["seal"], evidence["sealed"]

    edit(home(folder, "none") / "evidence.json", stripped)
    outcome, found = run(study, folder)
    assert outcome.attacks_run == 2 and figures(found["none"]) == figures(before["none"])


def test_scores_that_were_changed_or_are_gone_are_made_again(folder, study):
    path = home(folder, "none") / "loss-threshold.safetensors"
    whole = path.read_bytes()
    for damage in (flip, lambda path: path.unlink()):
        damage(path)
        outcome, _ = run(study, folder)
        assert (outcome.attacks_run, outcome.failed) == (1, {}) and path.read_bytes() == whole


def test_a_log_of_rounds_that_was_changed_is_not_read(folder, study):
    path = checkpoint(folder, "none").with_name("rounds.jsonl")
    path.write_text(path.read_text().replace('"site-2"', '"site-9"'))
    shutil.rmtree(folder / "cells")
    outcome, found = run(study, folder)
    assert list(outcome.failed) == ["none (seed 0)"]
    assert "rounds.jsonl" in found["none"]["error"] and "was changed after it was written" in found["none"]["error"]


def test_what_carried_a_training_was_not_typed_in(folder, study):
    """A deployment's engine would make the claim of noise that nobody can draw again."""
    path = checkpoint(folder, "dp-sgd").with_name("engine.json")
    edit(path, lambda record: record.update(kind="flower"))
    shutil.rmtree(folder / "cells")
    outcome, found = run(study, folder)
    assert list(outcome.failed) == ["dp-sgd (seed 0)"] and "engine.json was changed" in found["dp-sgd"]["error"]


def unseal(folder):
    """As a release from before there were seals wrote it."""
    for path in folder.rglob("*.json"):
        record = json.loads(path.read_text())
        for name in ("seal", "sealed", "seals", "released", "trained", "trainings"):
            record.pop(name, None)
        for finding in record.get("findings", {}).values() if isinstance(record.get("findings"), dict) else ():
            finding.pop("scores_sha256", None)
        for cell in record["cells"] if path.name == "study.json" else ():
            del cell["seal"]
        path.write_text(json.dumps(record))
    for path in folder.rglob("checkpoint.safetensors"):
        with safe_open(path, framework="pt") as file:
            about, tensors = json.loads(file.metadata()["about"]), {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
        for name in ("seal", "sealed", "tensors", "training"):
            del about[name]
        save_file(tensors, path, {"about": json.dumps(about)})


def test_a_folder_from_before_there_were_seals_is_gone_on_with(folder, study):
    before = cells(folder)
    unseal(folder)
    outcome, found = run(study, folder)
    assert (outcome.trained, outcome.attacks_run, outcome.failed) == (0, 0, {})
    assert all("seal" not in e for e in found.values())
    study["attacks"].append({"kind": "label-gap"})
    outcome, found = run(study, folder)
    assert (outcome.trained, outcome.attacks_run, outcome.attacks_reused) == (0, 2, 4)
    for arm, evidence in found.items():
        assert not is_altered(evidence) and evidence["utility"] == before[arm]["utility"]
        assert any("written before evidence was sealed" in note for note in evidence["notes"])
    outcome, again = run(study, folder)
    assert outcome.attacks_run == 0 and again == found


def test_a_sites_own_model_is_sealed_too(tables, tmp_path):
    tables |= {"vary": {}, "corruptions": [], "attacks": []}
    tables["federation"] = {"kind": "ditto", "rounds": 2}
    results = Study.of(tables).run(tmp_path, quiet=True)
    cell = results.folder / "cells" / results.plan.cells[0].digest
    path = next((results.folder / "models").glob("*/sites/site-1.safetensors"))
    whole = path.read_bytes()
    consilium.load(cell, site="site-1")
    flip(path)
    with pytest.raises(Refused, match=r"site-1.safetensors is not the model that was stored and judged"):
        consilium.load(cell, site="site-1")
    consilium.load(cell, site="site-0")
    outcome = Study.of(tables).run(tmp_path, quiet=True).outcome
    assert len(outcome.failed) == 1 and str(path) in next(iter(outcome.failed.values()))
    path.unlink()
    outcome = Study.of(tables).run(tmp_path, quiet=True).outcome
    assert not outcome.failed and path.read_bytes() == whole


def swapped(one, other):
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def utilities(evidence):
    return {arm: [m["value"] for m in e["utility"]] for arm, e in evidence.items()}


@pytest.mark.parametrize("recorded", [True, False], ids=["known seals", "no study.json"])
def test_evidence_of_another_cell_is_never_taken_for_its_own(folder, study, capsys, recorded):
    """Its seal holds: only its place is wrong."""
    before = utilities(cells(folder))
    record = (folder / "study.json").read_text()
    swapped(home(folder, "none"), home(folder, "dp-sgd"))
    (folder / "study.json").unlink()
    if recorded:
        (folder / "study.json").write_text(record)
        assert all("is that of another cell" in c.altered for c in read_study(folder).evidence)
    outcome = Study.of(study).run(folder.parent).outcome
    assert (outcome.trained, outcome.attacks_run, outcome.attacks_reused) == (0, 4, 0)
    assert utilities(cells(folder)) == before and before["none"] != before["dp-sgd"]
    assert {path.name for path in (folder / "cells").iterdir()} == {home(folder, arm).name for arm in before}
    for arm in before:
        assert json.loads((home(folder, arm) / "evidence.json").read_text())["cell"]["arm"] == arm
    assert ("changed after" if recorded else "is that of another cell") in capsys.readouterr().err


def test_a_model_of_another_arm_with_the_same_weights_is_stored_again(study, tmp_path):
    """Both files are the same, and one of them rounds its answers."""
    study = {**study, "vary": {"answer": ["round-answer"]}}
    folder = Study.of(study).run(tmp_path, quiet=True).folder
    own = {arm: (model(folder, arm) / "recipe.json").read_text() for arm in ("none", "round-answer")}
    swapped(model(folder, "none"), model(folder, "round-answer"))
    assert all("recipe.json is gone, is that of another model" in c.altered for c in read_study(folder).evidence)
    run(study, folder)
    assert {arm: (model(folder, arm) / "recipe.json").read_text() for arm in own} == own
    assert type(consilium.load(home(folder, "none"))).__name__ == "Sequential"


def test_a_training_of_another_arm_is_not_done(folder, study):
    one, other = (checkpoint(folder, arm).parent for arm in ("none", "dp-sgd"))
    swapped(one, other)
    assert not any(is_trained(Store(folder), path.name) for path in (one, other))
    outcome, _ = run(study, folder)
    assert outcome.trained or outcome.failed


@pytest.mark.parametrize("name", ["trainings", "models", "cells"])
def test_a_file_in_the_place_of_a_folder_is_named(folder, study, name):
    shutil.rmtree(folder / name)
    (folder / name).write_text("")
    with pytest.raises(Refused, match=rf"cannot make the folder .*{name}: File exists") as e:
        run(study, folder)
    assert e.value.remedy == "move away what is at this path"


def test_a_folder_in_the_place_of_a_file_takes_no_disk_space(folder, study):
    (folder / "study.json").unlink()
    (folder / "study.json").mkdir()
    with pytest.raises(Failed, match=r"study\.json: Is a directory") as e:
        run(study, folder)
    assert "move away what is at this path" in e.value.remedy


def test_load_takes_no_model_or_evidence_of_another_cell(folder):
    swapped(home(folder, "none"), home(folder, "dp-sgd"))
    with pytest.raises(Refused, match=r"evidence.json is that of another cell"):
        consilium.load(next((folder / "cells").iterdir()))


def test_load_takes_no_model_of_another_arm(folder):
    swapped(model(folder, "none"), model(folder, "dp-sgd"))
    with pytest.raises(Refused, match=r"recipe.json is that of another model"):
        consilium.load(home(folder, "none"))


@pytest.mark.parametrize(
    ("about", "readable"),
    [
        ({"sha256": "ff", "sites": {"a": "ee"}}, True),
        ({}, True),
        ({"sites": ["a"]}, False),
        ({"sites": {"a": 1}}, False),
        ({"sha256": 3}, False),
    ],
    ids=str,
)
def test_a_recipe_that_names_no_files_is_none(tmp_path, about, readable):
    """Its seal holds and its digest is that of its folder: only what it says of the files is of another type."""
    folder = tmp_path / digest({"seed": 1})
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(sealed({"seed": 1, **about})))
    assert bool(recipe_of(folder)) == readable
