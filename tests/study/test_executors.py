"""A study done by other processes and machines is the study done in this one: every figure and every tensor."""

import concurrent.futures
import json
import multiprocessing
import os
import re
import signal
from functools import partial

import pytest

from consilium import Study
from consilium.core.errors import Failed, MissingExtra, Refused
from consilium.federate.engines.pool import why_no_fork
from consilium.study.executors.distributed import cluster, slurm
from consilium.study.executors.distributed.elsewhere import perform_elsewhere
from consilium.study.executors.distributed.folder import make_ready, output_digest, prepare, prepared_in
from consilium.study.executors.distributed.foreign import Foreign
from consilium.study.executors.forked import Forked
from consilium.study.executors.perform import Prepared
from consilium.study.executors.serial import Serial
from consilium.study.run import choose_executor
from consilium.study.run.choose_executor import executor_for
from consilium.study.stages.context import StageContext
from consilium.study.stages.judging import judge_model
from consilium.study.stages.training import TrainStage
from consilium.study.store.store import Store

pytestmark = pytest.mark.skipif(why_no_fork() is not None, reason=str(why_no_fork()))

TIMES = re.compile(r"seconds|created|latency|^seals?$|^command$|^repeated$|^trained$|^trainings$")


@pytest.fixture(scope="module")
def study():
    """Twelve trainings of two rounds: seeds, a defence, an infection; attacks that need no, or another, model."""
    return {
        "name": "many",
        "threads": 1,
        "seeds": [0, 1, 2],
        "data": {"kind": "digits", "sites": 3, "partition": "iid", "public": 0.05},
        "model": {"kind": "mlp", "hidden": 8},
        "federation": {"kind": "fed-avg", "rounds": 2, "batch": 64, "lr": 0.1, "engine": "loop"},
        "vary": {"privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}]},
        "attacks": [
            {"kind": "transfer", "radius": 0.05, "steps": 2, "from": {"privacy": "none"}},
            {"kind": "loss-threshold"},
        ],
        "corruptions": [{"kind": "label-flip", "sites": 1}],
    }


@pytest.fixture(scope="module")
def small(study):
    return {**study, "seeds": [0]}


@pytest.fixture(scope="module")
def serial(study, tmp_path_factory):
    return Study.of(study).run(tmp_path_factory.mktemp("serial"), quiet=True, executor="serial").folder


@pytest.fixture(scope="module")
def serial_small(small, tmp_path_factory):
    return Study.of(small).run(tmp_path_factory.mktemp("serial"), quiet=True, executor="serial").folder


@pytest.fixture
def contents(contents_of):
    """Every record without times, and every tensor file as bytes."""
    return partial(contents_of, rooms=("trainings", "models", "cells", "study.json"), times=TIMES)


def prepared_for(study, out):
    plan = Study.of(study).plan()
    return Prepared(StageContext(plan, Store.of(out, plan.spec.name)))


# local processes


def test_two_processes_make_what_one_makes(study, serial, tmp_path, contents):
    results = Study.of(study).run(tmp_path, quiet=True, executor="processes", workers=2)
    assert contents(results.folder) == contents(serial)
    assert results.outcome.trained == 12 and results.outcome.attacks_run == 24 and not results.outcome.failed
    again = Study.of(study).run(tmp_path, quiet=True, executor="processes", workers=2).outcome
    assert (again.trained, again.attacks_run, again.reused, again.attacks_reused) == (0, 0, 12, 24)


def test_the_comparison_can_fail(serial_small, tmp_path, contents):
    path = next((serial_small / "cells").glob("*/evidence.json"))
    before, whole = path.read_text(), contents(serial_small)
    try:
        path.write_text(before.replace('"name": "accuracy"', '"name": "accuracies"', 1))
        assert contents(serial_small) != whole
    finally:
        path.write_text(before)


def test_a_killed_worker_loses_nothing_but_its_stage_which_is_done_again(
    small, serial_small, tmp_path, monkeypatch, capsys, contents
):
    run, marker = TrainStage.run, tmp_path / "killed"

    def dies_once(stage, context):
        if stage.node.arm.name != "none" and stage.node.corruption is None and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        run(stage, context)

    monkeypatch.setattr(TrainStage, "run", dies_once)
    results = Study.of(small).run(tmp_path, executor="processes", workers=2)
    assert marker.exists() and not results.outcome.failed
    assert contents(results.folder) == contents(serial_small)
    said = "training dp-sgd (seed 0) is done again: its worker process ended (exit status -9)"
    assert said in capsys.readouterr().err


def test_one_that_is_killed_twice_is_a_failure_of_its_own_cells(small, serial_small, tmp_path, monkeypatch, contents):
    run = TrainStage.run

    def dies(stage, context):
        if stage.node.arm.name != "none" and stage.node.corruption is None:
            os.kill(os.getpid(), signal.SIGKILL)
        run(stage, context)

    monkeypatch.setattr(TrainStage, "run", dies)
    results = Study.of(small).run(tmp_path, quiet=True, executor="processes", workers=2)
    assert set(results.outcome.failed) == {"dp-sgd (seed 0)"}
    assert "its training failed: its worker process ended (exit status -9)" in results.outcome.failed["dp-sgd (seed 0)"]
    broken = next(cell for cell in results.plan.cells if cell.label == "dp-sgd (seed 0)")
    record = json.loads((results.folder / "trainings" / broken.training / "training.json").read_text())
    assert record["status"] == "failed" and "exit status -9" in record["error"]
    wanted = {k: v for k, v in contents(serial_small).items() if k.startswith("cells") and broken.digest not in k}
    assert {k: v for k, v in contents(results.folder).items() if k in wanted} == wanted
    monkeypatch.setattr(TrainStage, "run", run)
    again = Study.of(small).run(tmp_path, quiet=True, executor="processes", workers=2)
    assert not again.outcome.failed and contents(results.folder) == contents(serial_small)


def test_an_evaluation_that_is_killed_keeps_what_was_measured(small, tmp_path, monkeypatch):
    def judged_then_dies(context, cell, draft):
        judge_model(context, cell, draft)
        if cell.label == "dp-sgd (seed 0)":
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    monkeypatch.setattr("consilium.study.stages.evaluation.judge_model", judged_then_dies)
    results = Study.of(small).run(tmp_path, quiet=True, executor="processes", workers=2)
    assert set(results.outcome.failed) == {"dp-sgd (seed 0)"}
    assert "exit status -9" in results.outcome.failed["dp-sgd (seed 0)"]


def test_a_fault_of_the_run_itself_ends_it_and_leaves_no_process(small, tmp_path, monkeypatch):
    """A full disk breaks every stage: nobody is told a hundred times."""

    def full(stage, context):
        raise Failed("cannot write evidence.json: no space left")

    monkeypatch.setattr(TrainStage, "run", full)
    with pytest.raises(Failed, match="no space left"):
        Study.of(small).run(tmp_path, quiet=True, executor="processes", workers=2)
    assert not multiprocessing.active_children()


def test_a_stop_kills_the_workers_and_loses_nothing(small, serial_small, tmp_path, monkeypatch, contents):
    run, waiting = TrainStage.run, multiprocessing.get_context("fork").Event()
    heard = Forked.ended

    def stops(stage, context):
        run(stage, context)
        if stage.node.arm.name != "none":
            waiting.set()
            signal.pause()  # until it is killed

    def interrupted(crew, futures):
        if waiting.wait(300):
            raise KeyboardInterrupt
        return heard(crew, futures)

    monkeypatch.setattr(TrainStage, "run", stops)
    monkeypatch.setattr(Forked, "ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Study.of(small).run(tmp_path, quiet=True, executor="processes", workers=2)
    assert not multiprocessing.active_children()
    monkeypatch.undo()
    results = Study.of(small).run(tmp_path, quiet=True, executor="processes", workers=2)
    assert contents(results.folder) == contents(serial_small)


def test_lines_are_one_for_each_training_and_say_what_is_left(small, tmp_path, capsys):
    Study.of(small).run(tmp_path, executor="processes", workers=2)
    lines = capsys.readouterr().err.splitlines()
    for label in ("none (seed 0)", "dp-sgd (seed 0)", "none (seed 0, infected by label-flip)"):
        assert sum(line.startswith(f"training {label}: round 2 of 2, loss") for line in lines) == 1


def test_workers_are_as_many_as_stages_that_can_run_at_once(study, tmp_path, monkeypatch):
    prepared = prepared_for(study, tmp_path)
    monkeypatch.setattr(choose_executor, "cores", lambda: 64)
    with executor_for("", 0, prepared) as crew:
        assert isinstance(crew, Forked) and crew.workers == 12 and crew._cores == 5
    monkeypatch.setattr(choose_executor, "cores", lambda: 2)
    with executor_for("", 0, prepared) as crew:
        assert isinstance(crew, Forked) and crew.workers == 2 and crew._cores == 1
    with executor_for("processes", 3, prepared) as crew:
        assert crew.workers == 3
    monkeypatch.setattr(choose_executor, "cores", lambda: 1)
    with executor_for("", 0, prepared) as crew:
        assert isinstance(crew, Serial)
    one = {**study, "seeds": [0], "vary": {}, "corruptions": [], "attacks": [{"kind": "loss-threshold"}]}
    monkeypatch.setattr(choose_executor, "cores", lambda: 64)
    with executor_for("", 0, prepared_for(one, tmp_path / "one")) as crew:
        assert isinstance(crew, Serial)
    spread = {**study, "federation": {**study["federation"], "engine": "pool"}}
    with executor_for("", 0, prepared_for(spread, tmp_path / "spread")) as crew:
        assert isinstance(crew, Serial)


def test_cells_that_share_shadows_are_one_at_a_time(study, tmp_path, monkeypatch):
    monkeypatch.setattr(choose_executor, "cores", lambda: 64)
    shadowed = {**study, "seeds": [0], "corruptions": [], "vary": {"compression": [{"kind": "static-int8"}]}}
    shadowed["attacks"] = [{"kind": "lira", "shadows": 4}]
    with executor_for("", 0, prepared_for(shadowed, tmp_path)) as crew:  # one training, two cells beside it
        assert isinstance(crew, Serial)


def test_an_unknown_executor_is_refused_by_name(small, tmp_path):
    with pytest.raises(Refused, match=r"unknown executor 'kubernetes'.*Known are serial, processes"):
        Study.of(small).run(tmp_path, quiet=True, executor="kubernetes")


# any executor


def test_any_executor_of_the_standard_library_carries_it(small, serial_small, tmp_path, contents):
    """Fresh processes, which plan again from the folder: spawn inherits nothing."""
    prepared = prepared_for(small, tmp_path)
    make_ready(prepared, "test")
    pool = concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    key = next(iter(prepared.stages))
    with Foreign(prepared, pool, 1) as crew:
        future = crew.submit(crew.perform, prepared.folder, prepared.digest, key)
        while not crew.ended([future]):
            pass
        assert future.result()["trained"] == 1
        assert future.result()["output"] == output_digest(prepared.stages[key], prepared.context.store)
    name = f"trainings/{key.removeprefix('train-')}/checkpoint.safetensors"
    assert contents(tmp_path / "many")[name] == contents(serial_small)[name]


def test_several_threads_are_fresh_processes_and_change_nothing(small, tmp_path, contents):
    """A forked process would wait for threads that it does not have."""
    threads = {**small, "threads": 2}
    wanted = Study.of(threads).run(tmp_path / "serial", quiet=True, executor="serial").folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose_executor, "cores", lambda: 4)
        results = Study.of(threads).run(tmp_path / "out", quiet=True, executor="processes")
    assert results.outcome.trained == 4 and contents(results.folder) == contents(wanted)


def test_a_local_dask_cluster_makes_what_one_process_makes(small, serial_small, tmp_path, contents):
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster_:
        address = f"dask:{cluster_.scheduler_address}"
        results = Study.of(small).run(tmp_path, quiet=True, executor=address)
    assert results.outcome.trained == 4 and not results.outcome.failed
    assert contents(results.folder) == contents(serial_small)


def test_the_local_executor_of_submitit_makes_what_one_process_makes(small, serial_small, tmp_path, contents):
    """One training and its cell: every job is a process that imports torch."""
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    one = {**small, "vary": {}, "corruptions": [], "attacks": small["attacks"][1:]}
    results = Study.of(one).run(tmp_path, quiet=True, executor="slurm:local", workers=2)
    assert (results.outcome.trained, results.outcome.attacks_run) == (1, 1) and not results.outcome.failed
    made, wanted = contents(results.folder), contents(serial_small)
    tensors = [name for name in made if name.startswith("trainings") and name.endswith(".safetensors")]
    assert len(tensors) == 1 and all(made[name] == wanted[name] for name in tensors)
    wanted = contents(Study.of(one).run(tmp_path / "serial", quiet=True, executor="serial").folder)
    assert made == wanted


@pytest.mark.parametrize(("module", "word"), [(cluster, "dask:tcp://127.0.0.1:9"), (slurm, "slurm")])
def test_a_missing_extra_is_refused_by_name(small, tmp_path, monkeypatch, module, word):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'is not installed.*pip install "consilium\[(cluster|slurm)\]"'):
        Study.of(small).run(tmp_path, quiet=True, executor=word)


# the folder


def test_another_study_in_the_folder_is_refused_by_name(small, tmp_path):
    prepared = prepare(Study.of(small).plan(), Store.of(tmp_path, "many"), "test")
    with pytest.raises(Refused, match=f"was prepared for the study {prepared.digest}, and 0123 was asked for"):
        perform_elsewhere(prepared.folder, "0123", next(iter(prepared.stages)))
    with pytest.raises(Refused, match="has no stage train-nothing"):
        perform_elsewhere(prepared.folder, prepared.digest, "train-nothing")
    (tmp_path / "many" / "plan.json").unlink()
    with pytest.raises(Refused, match=r"holds no plan\.json"):
        prepared_in(tmp_path / "many")


def test_a_plan_that_was_changed_is_refused(small, tmp_path):
    prepare(Study.of(small).plan(), Store.of(tmp_path, "many"), "test")
    path = tmp_path / "many" / "plan.json"
    path.write_text(path.read_text().replace('"label-flip"', '"label-flop"'))
    with pytest.raises(Refused, match="was changed after it was written"):
        prepared_in(tmp_path / "many")


def test_what_a_worker_says_is_believed_when_the_store_shows_it(small, tmp_path):
    prepared = prepared_for(small, tmp_path)
    key = next(iter(prepared.stages))
    with concurrent.futures.ThreadPoolExecutor(1) as pool, Foreign(prepared, pool, 1) as crew:
        prepared.run(key)
        future = crew.submit(lambda *_: {"output": "0" * 16}, "folder", "study", key)
        while not crew.ended([future]):
            pass
        with pytest.raises(Failed, match="is not in the store as its worker left it"):
            future.result()
