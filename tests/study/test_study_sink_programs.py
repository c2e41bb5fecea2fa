"""The programs that draw curves, fed by whole runs, and read by their own readers."""

import importlib.util
import socket

import numpy as np
import pytest

from consilium.monitor.sinks.scalars import LAST

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


def drawn(tracked, folder):
    """TensorBoard shows every round once, with the run's own figures."""
    runs = boards(folder)
    for digest, reports in tracked.logs(folder).items():
        (curves,) = [curves for name, curves in runs.items() if name.endswith(" " + digest[:8])]
        for name, column in (("accuracy/mean", "mean_accuracy"), ("bytes/up", "bytes_up"), (LAST, "seconds")):
            assert curves[name] == [(r["round"], float(np.float32(r[column]))) for r in reports]
    return runs


@needs_tensorboard
def test_tensorboard_shows_rounds_and_cells(tracked, tmp_path):
    _, folder = tracked.run(tmp_path)
    runs = drawn(tracked, folder)
    assert len(runs) == 8
    for digest, found in tracked.evidence(folder).items():
        (curves,) = [curves for name, curves in runs.items() if name.endswith(" " + digest[:8])]
        (accuracy,) = [m["value"] for m in found["utility"] if m["name"] == "accuracy"]
        assert curves["utility/accuracy"] == [(0, pytest.approx(accuracy, rel=1e-6))]
    files = {p: p.read_bytes() for p in (folder / "tensorboard").rglob("*") if p.is_file()}
    tracked.run(tmp_path)
    assert files == {p: p.read_bytes() for p in (folder / "tensorboard").rglob("*") if p.is_file()}


@needs_tensorboard
def test_tensorboard_goes_on_without_a_double(tracked, tmp_path):
    tracked.cut(2)
    with pytest.raises(tracked.Stop):
        tracked.run(tmp_path)
    (file,) = (tmp_path / "tiny" / "tensorboard").rglob("events.*")
    file.write_bytes(file.read_bytes()[:-5])  # the kill met a write
    tracked.uncut()
    _, folder = tracked.run(tmp_path)
    drawn(tracked, folder)


@needs_tensorboard
def test_tensorboard_forgets_rounds_that_were_trained_again(tracked, tmp_path):
    _, folder = tracked.run(tmp_path)
    for name in ("checkpoint.safetensors", "rounds.jsonl"):
        for path in (folder / "trainings").rglob(name):
            path.unlink()
    _, folder = tracked.run(tmp_path)
    drawn(tracked, folder)


@needs_tensorboard
def test_tensorboard_where_nothing_can_be_written(tracked, tmp_path, capsys):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tensorboard").write_text("a file where the folder should be")
    outcome, folder = tracked.run(tmp_path)
    assert not outcome.failed and len(tracked.evidence(folder)) == 4
    assert capsys.readouterr().err.count("tensorboard is left out from here: FileExistsError") == 1


@needs_tensorboard
def test_tensorboard_names_no_machine(tracked, tmp_path):
    tracked.run(tmp_path)
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
def test_mlflow_keeps_every_round_once(tracked, tmp_path):
    tracked.study["track"] = ["mlflow"]
    tracked.cut(2)
    with pytest.raises(tracked.Stop):
        tracked.run(tmp_path)
    tracked.uncut()
    _, folder = tracked.run(tmp_path)
    tracked.run(tmp_path)
    client, found = runs_of(folder)
    assert found.keys() == tracked.logs(folder).keys() | tracked.evidence(folder).keys()
    for digest, reports in tracked.logs(folder).items():
        assert found[digest].info.status == "FINISHED"
        for name, column in (("accuracy/mean", "mean_accuracy"), ("bytes/up", "bytes_up")):
            history = client.get_metric_history(found[digest].info.run_id, name)
            assert [(m.step, m.value) for m in history] == [(r["round"], r[column]) for r in reports]
    for digest, given in tracked.evidence(folder).items():
        (accuracy,) = [m["value"] for m in given["utility"] if m["name"] == "accuracy"]
        assert found[digest].data.metrics["utility/accuracy"] == accuracy
        assert found[digest].data.params["arm"] == given["cell"]["arm"]


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_contacts_nothing(tracked, tmp_path, monkeypatch):
    met = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: met.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: met.append(address))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org")
    tracked.run(tmp_path, track=["mlflow"])
    assert met == [] and (tmp_path / "tiny" / "mlflow" / "mlflow.db").is_file()
