"""The graph of a study, what is ready when, and the loop that hands it out."""

from concurrent.futures import Executor, Future

import pytest

from consilium import Study
from consilium.core.errors import Failed
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import Pool, why_no_fork
from consilium.federate.engines.stacked import Stacked
from consilium.study.build.engine_choice import is_deployed, tolerance_of
from consilium.study.executors.distributed.folder import written_tables
from consilium.study.executors.scheduler import ready, run_stages
from consilium.study.executors.serial import Serial
from consilium.study.progress.outcome import Outcome
from consilium.study.stages.graph import stages_of, study_digest, width
from consilium.study.stages.stage import Stage


@pytest.fixture(scope="module")
def tables():
    return {
        "name": "graph",
        "threads": 1,
        "seeds": [0, 1],
        "data": {"kind": "digits", "sites": 3},
        "model": "logistic",
        "federation": {"kind": "fed-avg", "rounds": 1},
        "vary": {
            "privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}],
            "answers": [{"kind": "round-answer"}],
        },
        "attacks": [{"kind": "transfer", "radius": 0.1, "from": {"privacy": "none"}}, "loss-threshold"],
    }


@pytest.fixture(scope="module")
def plan(tables):
    return Study.of(tables).plan()


def kinds(stages):
    return [key.split("-", maxsplit=1)[0] for key in stages]


def test_the_graph_of_a_plan(plan):
    stages = stages_of(plan)
    assert kinds(stages) == (["train"] * 2 + ["release"] + ["evaluate"] * 4) * 2  # of each seed
    for cell in plan.cells:
        stage = stages[f"evaluate-{cell.digest}"]
        source = plan.source(plan.spec.attacks[0], cell)
        assert stage.after == (f"train-{cell.training}", *((f"release-{source.model}",)))
        assert set(stage.after) <= set(list(stages)[: list(stages).index(stage.key)])  # those before it come first


def test_the_source_of_all_waits_for_nothing_but_its_own(plan):
    stages = stages_of(plan)
    first = plan.cells[0]
    assert stages[f"release-{first.model}"].after == (f"train-{first.training}",)


def test_the_digest_of_a_study_knows_its_attacks_and_its_stages(plan, tables):
    same = Study.of({**tables, "question": "another text"}).plan()
    other = Study.of({**tables, "attacks": tables["attacks"][1:]}).plan()
    more = Study.of({**tables, "seeds": [0, 1, 2]}).plan()
    assert len({study_digest(one) for one in (plan, other, more)}) == 3
    assert study_digest(same) == study_digest(plan)


def test_cells_of_one_training_share_its_folder_where_an_attack_writes_there(tables):
    attacks = [{"kind": "lira", "shadows": 4}]
    plan = Study.of({**tables, "attacks": attacks}).plan()
    cells = [stage for key, stage in stages_of(plan).items() if key.startswith("evaluate")]
    assert len(cells) == 8 and len({stage.exclusive for stage in cells}) == 4
    assert width(cells) == 4 == len({cell.training for cell in plan.cells})


class Piece(Stage):
    """A stage that notes when it runs."""

    arm = None

    def done(self, context):
        return False

    def run(self, context):
        context.ran.append(self.key)

    def fail(self, context, error):
        context.lost[self.key] = error

    def outputs(self, store):
        return ()


class Bench:
    """What the loop needs of a prepared study and of a monitor."""

    folder, digest = "folder", "study"

    def __init__(self, *stages):
        self.stages, self.context = {stage.key: stage for stage in stages}, self
        self.ran, self.lost, self.lines = [], {}, []

    def say(self, line):
        self.lines.append(line)

    def end(self, key):
        self.ended = key

    def refresh(self):
        self.drawn = True


def piece(key, *after, exclusive=()):
    return Piece(key, f"stage {key}", 0, after, frozenset(exclusive))


def test_ready_are_those_whose_forerunners_ended_and_whose_place_is_free():
    stages = {s.key: s for s in (piece("a"), piece("b", "a"), piece("c", exclusive="x"), piece("d", exclusive="x"))}
    assert [s.key for s in ready(stages, ())] == ["a", "c"]
    running = stages.pop("c")
    assert [s.key for s in ready(stages, [running])] == ["a"]
    del stages["a"]
    assert [s.key for s in ready(stages, ())] == ["b", "d"]


class Losing(Executor):
    """Loses the workers of some stages, so often each."""

    workers, lost, perform = 2, (Failed,), None

    def __init__(self, bench, losses):
        self.bench, self.losses, self.most, self.running = bench, dict(losses), 0, 0

    def submit(self, fn, /, *words):
        future, key = Future(), words[-1]
        self.running += 1
        self.most = max(self.most, self.running)
        if self.losses.get(key, 0):
            self.losses[key] -= 1
            future.set_exception(Failed("its worker process ended"))
        else:
            self.bench.stages[key].run(self.bench)
            future.set_result({"trained": 1})
        return future

    def ended(self, futures):
        self.running -= 1
        return {next(iter(futures))}


def test_a_lost_stage_is_done_once_more_and_then_recorded():
    bench = Bench(piece("a"), piece("b", "a"), piece("c"), piece("d", "c"))
    crew, outcome = Losing(bench, {"a": 1, "c": 2}), Outcome()
    run_stages(bench, crew, bench, outcome)
    assert sorted(bench.ran) == ["a", "b", "d"] and bench.lost == {"c": "its worker process ended."}
    assert outcome.trained == 3 and crew.most == 2
    assert bench.lines == [f"stage {key} is done again: its worker process ended." for key in "ac"]


def test_any_other_error_ends_the_run():
    bench = Bench(piece("a"), piece("b"))
    crew = Losing(bench, {"a": 1})
    crew.lost = ()
    with pytest.raises(Failed, match="its worker process ended"):
        run_stages(bench, crew, bench, Outcome())


def test_one_worker_keeps_the_order_of_the_plan(plan):
    order = []

    class Noting(Serial):
        def submit(self, fn, /, *words):
            order.append(words[-1])
            future = Future()
            future.set_result({})
            return future

    bench = Bench(*(piece(s.key, *s.after, exclusive=s.exclusive) for s in stages_of(plan).values()))
    run_stages(bench, Noting(), bench, Outcome())
    assert order == list(stages_of(plan))


def test_an_engine_says_how_exactly_two_runs_of_it_agree():
    assert (tolerance_of({"kind": "loop"}), tolerance_of({"kind": "stacked"}), tolerance_of(None)) == (0.0, 1e-5, 0.0)
    assert Loop().tolerance == 0.0
    if why_no_fork() is None:
        with Pool(Stacked(), (), 1) as pool:
            assert pool.tolerance == Stacked.tolerance
    assert is_deployed({"kind": "flower"}) and not is_deployed({"kind": "pool"}) and not is_deployed(None)


def test_tables_that_no_process_could_read_are_refused_by_place(plan, tmp_path):
    from dataclasses import replace

    from consilium.core.errors import Refused

    assert written_tables(replace(plan.spec, given={"data": {"path": tmp_path, "sites": (1, 2)}})) == {
        "data": {"path": str(tmp_path), "sites": [1, 2]}
    }
    with pytest.raises(Refused, match=r"data\.order\[1\]: a set cannot be written to plan\.json"):
        written_tables(replace(plan.spec, given={"data": {"order": [1, {2}]}}))
