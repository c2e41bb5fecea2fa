"""Curves beside the evidence: complete, never twice, never in the way, and nothing depends on them."""

import errno
import json
import re

import pytest

from consilium import Study
from consilium.core.errors import MissingExtra, Refused
from consilium.core.finding import Measure
from consilium.evidence.cell import CellEvidence
from consilium.monitor.epsilon_tracker import EpsilonSpent
from consilium.monitor.sinks import tracks as tracks_module
from consilium.monitor.sinks.scalars import LAST, cell_scalars, round_scalars
from consilium.monitor.sinks.sink import Curve, Sink

ROUNDS = 3


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
    monkeypatch.setattr(tracks_module, "_new_sink", lambda kind, folder, study: made)
    monkeypatch.setattr(tracks_module, "find_spec", lambda name: name)
    return made


def whole(tracked, paper, folder):
    """Every round of every training is there once, with the run's own figures."""
    for digest, reports in tracked.logs(folder).items():
        held = paper.series[digest]
        assert [number for number, *_ in held] == [r["round"] for r in reports] == list(range(1, ROUNDS + 1))
        for report, (_, values, _) in zip(reports, held, strict=True):
            assert values["accuracy/mean"] == report["mean_accuracy"]
            assert values["bytes/up"] == report["bytes_up"] and values[LAST] == report["seconds"]
            for site in report["sites"]:
                assert values[f"accuracy by site/{site['site']}"] == site["accuracy"]
        times = [at for *_, at in held]
        assert times == sorted(times)
    assert paper.series.keys() == tracked.logs(folder).keys()
    assert all(paper.ended.values())


def test_every_round_and_every_cell_is_there_once(tracked, tmp_path, paper):
    outcome, folder = tracked.run(tmp_path)
    assert outcome.trained == 4 and not outcome.failed
    whole(tracked, paper, folder)
    assert paper.cells.keys() == tracked.evidence(folder).keys()
    for digest, found in tracked.evidence(folder).items():
        cell, values = paper.cells[digest]
        (accuracy,) = [m for m in found["utility"] if m["name"] == "accuracy"]
        given = [values[f"utility/accuracy{end}"] for end in ("", " low", " high")]
        assert given == [accuracy["value"], accuracy["low"], accuracy["high"]]
        (robust,) = [m for m in found["findings"]["fgsm"]["measures"] if m["name"] == "robust_accuracy"]
        assert values["attack/fgsm/robust_accuracy"] == robust["value"]
        assert values.get("privacy/epsilon") == found["privacy"]["epsilon"]
        assert cell.facts["infected by"] == found["cell"]["infected_by"]
    private = [held[-1][1].get("privacy/epsilon spent per example") for held in paper.series.values()]
    spent = [e["privacy"]["epsilon"] for e in tracked.evidence(folder).values()]
    assert sorted(filter(None, private)) == pytest.approx(sorted(filter(None, spent)))


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_resumed_training_goes_on_where_its_curve_is(tracked, tmp_path, paper, moment):
    tracked.cut(moment)
    with pytest.raises(tracked.Stop):
        tracked.run(tmp_path)
    assert [len(held) for held in paper.series.values()] == [moment]
    tracked.uncut()
    _, folder = tracked.run(tmp_path)
    whole(tracked, paper, folder)


def test_a_round_that_the_kill_kept_from_the_sink_is_filled_in(tracked, tmp_path, paper):
    """The checkpoint is written before the sink is told."""
    tracked.cut(2, told=False)
    with pytest.raises(tracked.Stop):
        tracked.run(tmp_path)
    assert [[number for number, *_ in held] for held in paper.series.values()] == [[1]]
    tracked.uncut()
    _, folder = tracked.run(tmp_path)
    whole(tracked, paper, folder)


def test_the_comparison_can_fail(tracked, tmp_path, paper):
    _, folder = tracked.run(tmp_path)
    next(iter(paper.series.values())).append((ROUNDS, {}, 0.0))
    with pytest.raises(AssertionError):
        whole(tracked, paper, folder)


def test_a_sink_that_is_named_later_gets_everything(tracked, tmp_path, paper):
    tracked.run(tmp_path, track=[])
    assert not paper.series
    outcome, folder = tracked.run(tmp_path)
    assert outcome.trained == 0 and outcome.attacks_run == 0
    whole(tracked, paper, folder)
    assert paper.cells.keys() == tracked.evidence(folder).keys()


@pytest.mark.parametrize("call", ["begin", "write", "end", "final", "close"])
def test_a_sink_that_fails_is_one_line_and_no_failure(tracked, tmp_path, paper, capsys, call):
    paper.fails = call
    outcome, folder = tracked.run(tmp_path)
    err = capsys.readouterr().err
    assert not outcome.failed and outcome.trained == 4 and len(tracked.evidence(folder)) == 4
    warned = [line for line in err.splitlines() if "tensorboard" in line]
    assert warned == [
        "tensorboard is left out from here: OSError: [Errno 28] No space left on device; "
        "the next run fills in what is missing"
    ]
    paper.fails = ""
    _, folder = tracked.run(tmp_path)
    whole(tracked, paper, folder)


def test_a_sink_that_cannot_be_made_is_one_line(tracked, tmp_path, paper, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("another version\nwith a long story")

    monkeypatch.setattr(tracks_module, "_new_sink", broken)
    assert not tracked.run(tmp_path)[0].failed
    assert (
        "tensorboard is left out from here: RuntimeError: another version with a long story" in capsys.readouterr().err
    )


def test_a_request_to_stop_is_not_a_failure_of_a_sink(tracked, tmp_path, paper, monkeypatch):
    from consilium.monitor import interrupt as stop

    def interrupted(*_):
        stop._ASKED.set()
        raise ImportError("partially initialised")

    monkeypatch.setattr(paper, "write", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            tracked.run(tmp_path)
    finally:
        stop._ASKED.clear()


def test_a_sink_that_is_not_installed_is_refused_before_anything_runs(tracked, tmp_path, monkeypatch):
    monkeypatch.setattr(tracks_module, "find_spec", lambda name: None)
    plan = Study.of(tracked.study).plan()
    assert len(plan.trainings) == 4  # planning needs no sink
    with pytest.raises(MissingExtra, match=r"track\[0\]: tensorboard is not installed.*consilium\[track\]"):
        tracked.run(tmp_path)
    assert list((tmp_path / "tiny" / "trainings").iterdir()) == []


def test_what_is_no_sink_is_refused_by_name(tracked):
    with pytest.raises(Refused, match=r"^track\[0\]"):
        Study.of({**tracked.study, "track": ["tensorbord"]})
    with pytest.raises(Refused, match="each sink once"):
        Study.of({**tracked.study, "track": ["mlflow", "mlflow"]})


def test_no_digest_and_no_result_depends_on_a_sink(tracked, tmp_path, paper):
    _, without = tracked.run(tmp_path / "without", track=[])
    _, withal = tracked.run(tmp_path / "withal", track=["tensorboard", "mlflow"])
    files = {p.relative_to(without): p.read_bytes() for p in without.rglob("*.safetensors")}
    assert len(files) > 8
    assert files == {p.relative_to(withal): p.read_bytes() for p in withal.rglob("*.safetensors")}
    for digest, found in tracked.evidence(without).items():
        other = tracked.evidence(withal)[digest]
        assert other["utility"] == found["utility"] and other["privacy"] == found["privacy"]
        assert other["resolved"] == found["resolved"]
    both = [Study.of({**tracked.study, "track": track}).plan().cells for track in ([], ["mlflow"])]
    plans = [[dict(cell.model_recipe) for cell in cells] for cells in both]
    assert plans[0] == plans[1] and "track" not in json.dumps(plans)


# what is written


def test_scalars_are_aggregates_by_known_names(tracked, tmp_path, paper):
    """No image, no score of a record: a series for everything that is written is listed here."""
    tracked.run(tmp_path)
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
    assert cell_scalars(CellEvidence(utility=(Measure.undefined("auroc", "one class"),))) == {}


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
