"""Two workers in one folder, one of them killed half-way, make what one run makes."""

import json
import os
import re
import signal
import threading
from functools import partial

import pytest

from consilium import Study
from consilium.core.errors import Refused
from consilium.study.executors.distributed.folder import Ended, comparisons, prepare, prepared_in
from consilium.study.executors.distributed.lease import Leases
from consilium.study.executors.distributed.worker import carry_out, work_in
from consilium.study.store.store import Store

TIMES = re.compile(r"seconds|created|latency|^seals?$|^command$|^code$|^trained$|^trainings$")

STUDY = {
    "name": "many",
    "threads": 1,
    "seeds": [0, 1, 2],
    "data": {"kind": "digits", "sites": 3, "partition": "iid", "public": 0.05},
    "model": {"kind": "mlp", "hidden": 8},
    "federation": {"kind": "fed-avg", "rounds": 2, "batch": 64, "lr": 0.1, "engine": "loop"},
    "vary": {"privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}]},
    "attacks": [{"kind": "transfer", "radius": 0.05, "steps": 2, "from": {"privacy": "none"}}],
    "corruptions": [{"kind": "label-flip", "sites": 1}],
}
SMALL = {**STUDY, "seeds": [0]}


@pytest.fixture
def contents(contents_of):
    """Every record without times, and every tensor file as bytes."""
    return partial(contents_of, rooms=("trainings", "models", "cells"), times=TIMES)


def ended(folder):
    return len(list((folder / "ended").glob("*.json")))


def until(true, seconds=300):
    """Wait for an event of the file system."""
    pause = threading.Event()
    for _ in range(seconds * 50):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it never came")


def worked_half_killed(consilium_cli, tmp_path, stages):
    """The folder of many.toml, done by two workers of which one is killed once so many ``stages`` have ended."""
    done = consilium_cli("prepare", "many.toml", "--out", "out", "--json", cwd=tmp_path)
    folder = tmp_path / "out" / "many"
    assert done.code == 0 and done.json["work"] == "consilium work out/many", done.err
    first, second = (consilium_cli.start("work", "out/many", "--json", cwd=tmp_path) for _ in range(2))
    until(lambda: ended(folder) >= stages)
    first.send(signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL, "it was over before it was killed"
    done = second.wait()
    assert done.code == 0, done.err
    return folder


def test_two_workers_one_killed_half_way_make_what_one_run_makes(tmp_path, consilium_cli, as_toml, contents):
    (tmp_path / "many.toml").write_text(as_toml(STUDY))
    assert consilium_cli("run", "many.toml", "--out", "whole", "--executor", "serial", cwd=tmp_path).code == 0
    folder = worked_half_killed(consilium_cli, tmp_path, 12)
    assert contents(folder) == contents(tmp_path / "whole" / "many")
    study = json.loads((folder / "study.json").read_text())
    assert {cell["status"] for cell in study["cells"]} == {"ok"} and all(cell["seal"] for cell in study["cells"])
    assert (folder / "table.csv").is_file() and (folder / "report.html").is_file()
    assert not list((folder / "leases").glob("*"))
    again = consilium_cli("run", "many.toml", "--out", "out", "--json", cwd=tmp_path)
    assert again.code == 0 and again.json["trained"] == again.json["attacks_run"] == 0
    late = consilium_cli("work", "out/many", "--json", cwd=tmp_path)
    assert late.code == 0 and late.json["trained"] == 0


@pytest.mark.slow
def test_one_study_of_24_trainings_is_the_same_by_every_executor(tmp_path, consilium_cli, as_toml, contents):
    """Serial, two local processes, two workers of which one is killed half-way, and a local Dask cluster."""
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    study = {**STUDY, "seeds": list(range(6))}
    (tmp_path / "many.toml").write_text(as_toml(study))
    serial = Study.of(study).run(tmp_path / "serial", quiet=True, executor="serial")
    assert serial.outcome.trained == 24 and not serial.outcome.failed
    wanted = contents(serial.folder)
    local = Study.of(study).run(tmp_path / "local", quiet=True, executor="processes", workers=2)
    assert local.outcome.trained == 24 and contents(local.folder) == wanted
    assert contents(worked_half_killed(consilium_cli, tmp_path, 24)) == wanted
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        word = f"dask:{cluster.scheduler_address}"
        dask = Study.of(study).run(tmp_path / "dask", quiet=True, executor=word)
    assert dask.outcome.trained == 24 and contents(dask.folder) == wanted


@pytest.fixture
def prepared(tmp_path):
    store = Store.of(tmp_path, "many")
    prepare(Study.of(SMALL).plan(), store, "test")
    return prepared_in(store.folder)[0]


def first_training(prepared):
    return next(stage for key, stage in prepared.stages.items() if key.startswith("train-"))


def test_a_dead_workers_training_goes_on_from_its_last_round(prepared, monkeypatch):
    """The first worker is killed after one of two rounds; what it did is not done again."""
    stage, store = first_training(prepared), prepared.context.store
    log = store.training(stage.node.digest) / "rounds.jsonl"
    pid = os.fork()
    if pid == 0:
        prepared.teller = lambda _: (
            lambda event: os.kill(os.getpid(), signal.SIGKILL) if "Round" in repr(event) else None
        )
        carry_out(prepared, stage, Leases(store.folder))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    line = log.read_bytes()
    assert line.count(b"\n") == 1
    done = carry_out(prepared, stage, Leases(store.folder, pause=0.0))
    assert done.counts["resumed"] == 1 and log.read_bytes().startswith(line)


def test_a_worker_that_lost_its_lease_writes_no_round_more(prepared):
    stage, store = first_training(prepared), prepared.context.store
    lease = store.folder / "leases" / f"{stage.key}.json"

    def robbed(_):
        def tell(event):
            if "RoundDone" in repr(event):
                lease.write_text(json.dumps({**json.loads(lease.read_text()), "owner": "thief"}))

        return tell

    prepared.teller = robbed
    assert carry_out(prepared, stage, Leases(store.folder)) is None
    assert (store.training(stage.node.digest) / "rounds.jsonl").read_bytes().count(b"\n") == 1
    record = json.loads((store.training(stage.node.digest) / "training.json").read_text())
    assert record["status"] == "started" and Ended.read(store, stage.key) is None
    assert json.loads(lease.read_text())["owner"] == "thief"


def test_what_is_done_twice_is_compared_and_a_planted_difference_is_reported(prepared, tmp_path, capsys):
    store = prepared.context.store
    equal, unequal = [stage for key, stage in prepared.stages.items() if key.startswith("train-")][:2]
    work_in(store.folder, quiet=True)
    for stage, output in ((equal, Ended.read(store, equal.key).output), (unequal, "0" * 16)):
        same = Ended("", output, {}).write(store, stage.key, "late")
        assert same == (stage is equal)
    assert comparisons(store, prepared.stages) == (2, [unequal.key])
    (store.folder / "ended" / "finish.json").unlink()
    work_in(store.folder)
    assert f"{unequal.label} was done twice, and something else came of it" in capsys.readouterr().err
    study = json.loads((store.folder / "study.json").read_text())
    assert study["repeated"] == {"stages": 2, "unequal": [unequal.key]}


def test_run_and_work_keep_out_of_each_others_way(prepared):
    store = prepared.context.store
    with store.locked(), pytest.raises(Refused, match="a run is writing to"):
        work_in(store.folder, quiet=True)
    with Leases(store.folder).claim("run"), pytest.raises(Refused, match="a run is writing to"):  # of another machine
        work_in(store.folder, quiet=True)
    with store.shared(), pytest.raises(Refused, match="another run is writing to"):
        Study.of(SMALL).run(store.folder.parent, quiet=True)
    with Leases(store.folder).claim("train-x"), pytest.raises(Refused, match="another worker is at train-x"):
        Study.of(SMALL).run(store.folder.parent, quiet=True)
    with Leases(store.folder).claim("train-x"), pytest.raises(Refused, match="another worker is at train-x"):
        prepare(Study.of(SMALL).plan(), store, "test")


def test_a_failed_training_is_tried_again_when_the_folder_is_prepared_again(prepared, monkeypatch):
    store, stage = prepared.context.store, first_training(prepared)
    from consilium.study.stages import training

    def breaks(*_, **__):
        raise ValueError("odd")

    monkeypatch.setattr(training, "train", breaks)
    worked = work_in(store.folder, quiet=True)
    assert len(worked.outcome.failed) == 4 and worked.last
    assert re.fullmatch(r"ValueError: odd \(test_work\.py:\d+\)", Ended.read(store, stage.key).error)
    monkeypatch.undo()
    assert len(work_in(store.folder, quiet=True).outcome.failed) == 4  # it has ended: workers are no second try
    prepare(Study.of(SMALL).plan(), store, "test")
    assert not work_in(store.folder, quiet=True).outcome.failed
