"""Curves beside the evidence: complete, never twice, never in the way, and nothing depends on them."""

import errno
import importlib.util
import json
import re

import numpy as np
import pytest

from consilium import Study
from consilium.core.errors import MissingExtra, Refused
from consilium.study.sinks import tracks as tracks_module
from consilium.study.sinks.scalars import LAST, cell_scalars, round_scalars
from consilium.study.sinks.sink import Curve, Sink
from consilium.study.spending import EpsilonSpent
from consilium.study.watch import Watch

ROUNDS = 3


@pytest.fixture
def study(tables):
    """Two arms, clean and infected, one attack: four trainings, four cells."""
    del tables["vary"]["robustness"], tables["vary"]["compression"]
    return {**tables, "attacks": tables["attacks"][:1], "track": ["tensorboard"]}


def run(study, out):
    results = Study.of(study).run(out)
    return results.outcome, results.folder


def logs(folder):
    """Rounds by training digest, as the run itself keeps them."""
    return {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (folder / "trainings").glob("*/rounds.jsonl")
    }


def evidence(folder):
    found = [json.loads(path.read_text()) for path in (folder / "cells").glob("*/evidence.json")]
    return {e["cell"]["digest"]: e for e in found}


class Stop(BaseException):
    """Whoever pulled the plug."""


@pytest.fixture
def cut(monkeypatch):
    """``cut(n)``: the next run is killed after round n of its first training; ``cut(0)``: no more."""
    told = Watch.__call__

    def after(number):
        def call(self, report, sites):
            told(self, report, sites)
            if report["round"] == number:
                raise Stop

        monkeypatch.setattr(Watch, "__call__", call)

    return after


# a sink of our own, which stands for any


class Paper(Sink):
    """Remembers what it was given, over runs; ``fails`` names the call that breaks."""

    def __init__(self, fails=""):
        self.fails, self.series, self.cells, self.ended, self.now = fails, {}, {}, {}, None

    def trip(self, name):
        if self.fails == name:
            raise OSError(errno.ENOSPC, "No space left on device")

    def begin(self, curve, done):
        self.trip("begin")
        self.now = curve
        return max((number for number, *_ in self.series.get(curve.digest, [])), default=0)

    def write(self, number, values, at):
        self.trip("write")
        self.series.setdefault(self.now.digest, []).append((number, values, at))

    def end(self, finished):
        self.trip("end")
        if self.now is not None:
            self.ended[self.now.digest] = finished
        self.now = None

    def final(self, cell, values):
        self.trip("final")
        self.cells[cell.digest] = (cell, values)

    def close(self):
        self.trip("close")


@pytest.fixture
def paper(monkeypatch):
    """Every sink that a study names is this one."""
    made = Paper()
    monkeypatch.setattr(tracks_module, "_made", lambda kind, folder, study: made)
    monkeypatch.setattr(tracks_module, "find_spec", lambda name: name)
    return made


def whole(paper, folder):
    """Every round of every training is there once, with the run's own figures."""
    for digest, reports in logs(folder).items():
        held = paper.series[digest]
        assert [number for number, *_ in held] == [r["round"] for r in reports] == list(range(1, ROUNDS + 1))
        for report, (_, values, _) in zip(reports, held, strict=True):
            assert values["accuracy/mean"] == report["mean_accuracy"]
            assert values["bytes/up"] == report["bytes_up"] and values[LAST] == report["seconds"]
            for site in report["sites"]:
                assert values[f"accuracy by site/{site['site']}"] == site["accuracy"]
        times = [at for *_, at in held]
        assert times == sorted(times)
    assert paper.series.keys() == logs(folder).keys()
    assert all(paper.ended.values())


def test_every_round_and_every_cell_is_there_once(study, tmp_path, paper):
    outcome, folder = run(study, tmp_path)
    assert outcome.trained == 4 and not outcome.failed
    whole(paper, folder)
    assert paper.cells.keys() == evidence(folder).keys()
    for digest, found in evidence(folder).items():
        cell, values = paper.cells[digest]
        (accuracy,) = [m for m in found["utility"] if m["name"] == "accuracy"]
        given = [values[f"utility/accuracy{end}"] for end in ("", " low", " high")]
        assert given == [accuracy["value"], accuracy["low"], accuracy["high"]]
        (robust,) = [m for m in found["findings"]["fgsm"]["measures"] if m["name"] == "robust_accuracy"]
        assert values["attack/fgsm/robust_accuracy"] == robust["value"]
        assert values.get("privacy/epsilon") == found["privacy"]["epsilon"]
        assert cell.facts["infected by"] == found["cell"]["infected_by"]
    private = [held[-1][1].get("privacy/epsilon spent per example") for held in paper.series.values()]
    spent = [e["privacy"]["epsilon"] for e in evidence(folder).values()]
    assert sorted(filter(None, private)) == pytest.approx(sorted(filter(None, spent)))


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_resumed_training_goes_on_where_its_curve_is(study, tmp_path, paper, cut, moment):
    cut(moment)
    with pytest.raises(Stop):
        run(study, tmp_path)
    assert [len(held) for held in paper.series.values()] == [moment]
    cut(0)
    _, folder = run(study, tmp_path)
    whole(paper, folder)


def test_a_round_that_the_kill_kept_from_the_sink_is_filled_in(study, tmp_path, paper, monkeypatch):
    """The checkpoint is written before the sink is told."""
    told = Watch.__call__

    def call(self, report, sites):
        if report["round"] == 2:
            raise Stop
        told(self, report, sites)

    monkeypatch.setattr(Watch, "__call__", call)
    with pytest.raises(Stop):
        run(study, tmp_path)
    assert [[number for number, *_ in held] for held in paper.series.values()] == [[1]]
    monkeypatch.setattr(Watch, "__call__", told)
    _, folder = run(study, tmp_path)
    whole(paper, folder)


def test_the_comparison_can_fail(study, tmp_path, paper):
    _, folder = run(study, tmp_path)
    next(iter(paper.series.values())).append((ROUNDS, {}, 0.0))
    with pytest.raises(AssertionError):
        whole(paper, folder)


def test_a_sink_that_is_named_later_gets_everything(study, tmp_path, paper):
    run({**study, "track": []}, tmp_path)
    assert not paper.series
    outcome, folder = run(study, tmp_path)
    assert outcome.trained == 0 and outcome.attacks_run == 0
    whole(paper, folder)
    assert paper.cells.keys() == evidence(folder).keys()


@pytest.mark.parametrize("call", ["begin", "write", "end", "final", "close"])
def test_a_sink_that_fails_is_one_line_and_no_failure(study, tmp_path, paper, capsys, call):
    paper.fails = call
    outcome, folder = run(study, tmp_path)
    err = capsys.readouterr().err
    assert not outcome.failed and outcome.trained == 4 and len(evidence(folder)) == 4
    warned = [line for line in err.splitlines() if "tensorboard" in line]
    assert warned == [
        "tensorboard is left out from here: OSError: [Errno 28] No space left on device; "
        "the next run fills in what is missing"
    ]
    paper.fails = ""
    _, folder = run(study, tmp_path)
    whole(paper, folder)


def test_a_sink_that_cannot_be_made_is_one_line(study, tmp_path, paper, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("another version\nwith a long story")

    monkeypatch.setattr(tracks_module, "_made", broken)
    assert not run(study, tmp_path)[0].failed
    assert (
        "tensorboard is left out from here: RuntimeError: another version with a long story" in capsys.readouterr().err
    )


def test_a_request_to_stop_is_not_a_failure_of_a_sink(study, tmp_path, paper, monkeypatch):
    from consilium.study import stop

    def interrupted(*_):
        stop._ASKED.set()
        raise ImportError("partially initialised")

    monkeypatch.setattr(paper, "write", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(study, tmp_path)
    finally:
        stop._ASKED.clear()


def test_a_sink_that_is_not_installed_is_refused_before_anything_runs(study, tmp_path, monkeypatch):
    monkeypatch.setattr(tracks_module, "find_spec", lambda name: None)
    plan = Study.of(study).plan()
    assert len(plan.trainings) == 4  # planning needs no sink
    with pytest.raises(MissingExtra, match=r"track\[0\]: tensorboard is not installed.*consilium\[track\]"):
        run(study, tmp_path)
    assert list((tmp_path / "tiny" / "trainings").iterdir()) == []


def test_what_is_no_sink_is_refused_by_name(study):
    with pytest.raises(Refused, match=r"^track\[0\]"):
        Study.of({**study, "track": ["tensorbord"]})
    with pytest.raises(Refused, match="each sink once"):
        Study.of({**study, "track": ["mlflow", "mlflow"]})


def test_no_digest_and_no_result_depends_on_a_sink(study, tmp_path, paper):
    _, without = run({**study, "track": []}, tmp_path / "without")
    _, withal = run({**study, "track": ["tensorboard", "mlflow"]}, tmp_path / "withal")
    files = {p.relative_to(without): p.read_bytes() for p in without.rglob("*.safetensors")}
    assert len(files) > 8
    assert files == {p.relative_to(withal): p.read_bytes() for p in withal.rglob("*.safetensors")}
    for digest, found in evidence(without).items():
        other = evidence(withal)[digest]
        assert other["utility"] == found["utility"] and other["privacy"] == found["privacy"]
        assert other["resolved"] == found["resolved"]
    plans = [
        json.loads(json.dumps(Study.of({**study, "track": t}).plan().cells[0].model_recipe)) for t in ([], ["mlflow"])
    ]
    assert plans[0] == plans[1] and "track" not in json.dumps(plans)


# what is written


def test_scalars_are_aggregates_by_known_names(study, tmp_path, paper):
    """No image, no score of a record: a series for everything that is written is listed here."""
    run(study, tmp_path)
    known = r"accuracy/(mean|worst site)|loss/mean|bytes/(up|down)|round/seconds|(accuracy|loss) by site/site-\d|"
    known += r"privacy/epsilon spent per (example|label)|sites/(refused|dropped|late|absent|slow)"
    for held in paper.series.values():
        for _, values, _ in held:
            assert all(re.fullmatch(known, name) and type(value) is float for name, value in values.items())
    for _, values in paper.cells.values():
        assert all(re.match(r"(utility|cost|attack/fgsm|privacy)/", name) for name in values)


def test_what_is_not_known_is_left_out():
    report = {"round": 2, "seconds": 1.0, "mean_accuracy": None, "mean_loss": float("nan"), "bytes_up": 7}
    report["sites"] = [{"site": "St. Mary's", "n": 0, "accuracy": None, "loss": None}, {"site": "b/c", "accuracy": 0.5}]
    assert round_scalars(report) == {"bytes/up": 7.0, "accuracy by site/b-c": 0.5, LAST: 1.0}
    assert list(round_scalars(report))[-1] == LAST
    assert cell_scalars({"utility": [{"name": "auroc", "value": None, "low": None, "high": None}]}) == {}


def test_epsilon_stands_at_the_round_that_it_is_of():
    spent = EpsilonSpent(1.0, 1e-5, "example", 2.0, 3)
    values = [round_scalars({"round": r, "seconds": 1.0}, spent) for r in (2, 3, 4)]
    assert ["privacy/epsilon spent per example" in v for v in values] == [False, True, False]


def test_a_thousand_sites_have_no_thousand_curves():
    sites = [{"site": f"s{i}", "accuracy": 0.5, "loss": 1.0} for i in range(1000)]
    assert len(round_scalars({"round": 1, "seconds": 1.0, "mean_accuracy": 0.5, "sites": sites})) == 2


def test_the_name_of_a_curve_is_a_folder_and_its_digest():
    assert (
        Curve("dp-sgd(epsilon=8.0) + x (seed 0)", "0123456789abcdef").name
        == "dp-sgd(epsilon=8.0) + x (seed 0) 01234567"
    )
    assert Curve("../../etc", "0123456789abcdef").name == "..-..-etc 01234567"
    assert len(Curve("x" * 1000, "0" * 16).name) < 140


# TensorBoard itself

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed (extra track)"
)


def boards(folder):
    """Every series in ``folder``: name -> [(step, value)], by run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for path in sorted({file.parent for file in (folder / "tensorboard").rglob("events.*")}):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        tags = events.Tags()["scalars"]
        found[path.name] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}
    return found


def drawn(folder):
    """TensorBoard shows every round once, with the run's own figures."""
    runs = boards(folder)
    for digest, reports in logs(folder).items():
        (curves,) = [curves for name, curves in runs.items() if name.endswith(" " + digest[:8])]
        for name, column in (("accuracy/mean", "mean_accuracy"), ("bytes/up", "bytes_up"), (LAST, "seconds")):
            assert curves[name] == [(r["round"], float(np.float32(r[column]))) for r in reports]
    return runs


@needs_tensorboard
def test_tensorboard_shows_rounds_and_cells(study, tmp_path):
    _, folder = run(study, tmp_path)
    runs = drawn(folder)
    assert len(runs) == 8
    for digest, found in evidence(folder).items():
        (curves,) = [curves for name, curves in runs.items() if name.endswith(" " + digest[:8])]
        (accuracy,) = [m["value"] for m in found["utility"] if m["name"] == "accuracy"]
        assert curves["utility/accuracy"] == [(0, pytest.approx(accuracy, rel=1e-6))]
    files = {p: p.read_bytes() for p in (folder / "tensorboard").rglob("*") if p.is_file()}
    run(study, tmp_path)
    assert files == {p: p.read_bytes() for p in (folder / "tensorboard").rglob("*") if p.is_file()}


@needs_tensorboard
def test_tensorboard_goes_on_without_a_double(study, tmp_path, cut):
    cut(2)
    with pytest.raises(Stop):
        run(study, tmp_path)
    (file,) = (tmp_path / "tiny" / "tensorboard").rglob("events.*")
    file.write_bytes(file.read_bytes()[:-5])  # the kill met a write
    cut(0)
    _, folder = run(study, tmp_path)
    drawn(folder)


@needs_tensorboard
def test_tensorboard_forgets_rounds_that_were_trained_again(study, tmp_path, cut):
    _, folder = run(study, tmp_path)
    for name in ("checkpoint.safetensors", "rounds.jsonl"):
        for path in (folder / "trainings").rglob(name):
            path.unlink()
    _, folder = run(study, tmp_path)
    drawn(folder)


@needs_tensorboard
def test_tensorboard_where_nothing_can_be_written(study, tmp_path, capsys):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tensorboard").write_text("a file where the folder should be")
    outcome, folder = run(study, tmp_path)
    assert not outcome.failed and len(evidence(folder)) == 4
    assert capsys.readouterr().err.count("tensorboard is left out from here: FileExistsError") == 1


@needs_tensorboard
def test_tensorboard_names_no_machine(study, tmp_path):
    import socket

    run(study, tmp_path)
    for path in (tmp_path / "tiny" / "tensorboard").rglob("*"):
        assert socket.gethostname() not in path.name


# MLflow itself

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed (extra track)"
)


def runs_of(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    found = {run.data.tags["consilium.digest"]: run for run in client.search_runs([experiment.experiment_id])}
    return client, found


@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own, of the libraries it is built on
def test_mlflow_keeps_every_round_once(study, tmp_path, cut):
    study["track"] = ["mlflow"]
    cut(2)
    with pytest.raises(Stop):
        run(study, tmp_path)
    cut(0)
    _, folder = run(study, tmp_path)
    run(study, tmp_path)
    client, found = runs_of(folder)
    assert found.keys() == logs(folder).keys() | evidence(folder).keys()
    for digest, reports in logs(folder).items():
        assert found[digest].info.status == "FINISHED"
        for name, column in (("accuracy/mean", "mean_accuracy"), ("bytes/up", "bytes_up")):
            history = client.get_metric_history(found[digest].info.run_id, name)
            assert [(m.step, m.value) for m in history] == [(r["round"], r[column]) for r in reports]
    for digest, given in evidence(folder).items():
        (accuracy,) = [m["value"] for m in given["utility"] if m["name"] == "accuracy"]
        assert found[digest].data.metrics["utility/accuracy"] == accuracy
        assert found[digest].data.params["arm"] == given["cell"]["arm"]


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_contacts_nothing(study, tmp_path, monkeypatch):
    import socket

    met = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: met.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: met.append(address))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org")
    run({**study, "track": ["mlflow"]}, tmp_path)
    assert met == [] and (tmp_path / "tiny" / "mlflow" / "mlflow.db").is_file()
