"""Plans of many arms: what arms share is asked once, the time is a sample's, and a long plan says how far it is."""

import io

import pytest
from rich.console import Console

from consilium.core.errors import Refused
from consilium.federate.engines.pool import why_no_fork
from consilium.monitor import progress
from consilium.monitor.progress import Planning
from consilium.study.plan import rules as laws
from consilium.study.plan.plan import make_plan
from consilium.study.run import choose_executor
from consilium.study.run import cost_estimate as estimate
from consilium.study.run.plan_summary import plan_summary
from consilium.study.run.plan_table import plan_lines
from consilium.study.spec.parse import parse

TABLE = {
    "name": "large",
    "threads": 1,
    "data": {"kind": "breast-cancer", "sites": 2},
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 2},
    "vary": {
        "privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0 + i / 10} for i in range(3)],
        "update": [{"kind": "qsgd", "bucket": 16 * i} for i in range(1, 4)],
        "model": [{"kind": "prune", "sparsity": i / 10} for i in range(1, 4)],
    },
}


def counting(monkeypatch, module, name):
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: calls.append(args) or real(*args))
    return calls


def test_arms_share_what_is_asked_of_a_network(monkeypatch):
    asked = {name: counting(monkeypatch, laws, name) for name in ("_unreadable", "_mixing", "_unfit")}
    assert len(make_plan(parse(TABLE)).arms) == 64
    assert {name: len(calls) for name, calls in asked.items()} == {"_unreadable": 3, "_mixing": 3, "_unfit": 3}


def test_a_sample_of_the_trainings_is_timed(monkeypatch):
    plan = make_plan(parse(TABLE))
    calls = counting(monkeypatch, estimate, "_seconds")
    monkeypatch.setattr(estimate, "_KINDS", 4)
    assert plan_summary(plan, None)["expected_seconds"] > 0
    assert len(plan.trainings) == 16 and len(calls) == 4
    monkeypatch.setattr(estimate, "_seconds", lambda *_: 2.0)
    assert estimate.expected_seconds(plan, list(plan.trainings.values())) == pytest.approx(32.0)


@pytest.mark.parametrize(
    ("seconds", "workers", "end"),
    [((3, 3, 3), 1, 9), ((3, 3, 3), 2, 6), ((4, 1, 1, 1), 2, 4), ((1, 1, 1, 4), 2, 5), ((2, 2), 5, 2), ((), 2, 0)],
)
def test_the_last_worker_is_done_when_no_job_is_left(seconds, workers, end):
    assert estimate.spread(seconds, workers) == end


@pytest.mark.parametrize(
    ("cores", "engine", "workers", "seconds"),
    [(1, "loop", 1, 32.0), (2, "loop", 2, 16.0), (64, "loop", 16, 2.0), (2, "pool", 1, 32.0)],
)
@pytest.mark.skipif(why_no_fork() is not None, reason=str(why_no_fork()))
def test_the_time_is_that_of_the_workers_that_a_run_has(monkeypatch, cores, engine, workers, seconds):
    """As many as a run has by itself; an engine that takes all cores for one training leaves them to it."""
    plan = make_plan(parse({**TABLE, "federation": {**TABLE["federation"], "engine": engine}}))
    monkeypatch.setattr(estimate, "_seconds", lambda *_: 2.0)
    monkeypatch.setattr(choose_executor, "cores", lambda: cores)
    summary = plan_summary(plan, None)
    assert (summary["workers"], summary["expected_seconds"]) == (workers, seconds)
    how = "one at a time" if workers == 1 else f"{workers} at once"
    time = f"training alone will take about {seconds:.0f} s, {how}; evaluation and attacks are not estimated"
    assert plan_lines(summary)[-1].endswith(time)
    assert "alone will take less than a second, " in plan_lines({**summary, "expected_seconds": 0.2})[-1]


def test_shadows_share_the_cores_of_the_workers(monkeypatch):
    plan = make_plan(parse(TABLE))
    monkeypatch.setattr(estimate, "_seconds", lambda *_: 2.0)
    monkeypatch.setattr(estimate, "shadow_workers", lambda _, allotted: allotted or 8)
    monkeypatch.setattr(estimate, "cores", lambda: 8)
    shadows = {next(iter(plan.trainings)): 8}
    assert estimate.expected_seconds(plan, [], shadows) == 2.0  # all at once, one a core
    assert estimate.expected_seconds(plan, [], shadows, 4) == 8.0  # two cores for each worker: four times two


def test_a_long_plan_says_how_far_it_is(monkeypatch):
    console = Console(file=io.StringIO())
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    make_plan(parse(TABLE), progress=Planning(console=console))
    assert console.file.getvalue() == "planning: 0 of 64 arms checked\n"


def test_more_models_than_can_be_planned_are_refused():
    many = {**TABLE, "seeds": list(range(1000))}
    with pytest.raises(Refused, match=r"1000 seeds x 64 arms x 1 infections are 64000 models, more than 50000"):
        parse(many)
    assert len(parse({**TABLE, "seeds": list(range(781))}).seeds) == 781
