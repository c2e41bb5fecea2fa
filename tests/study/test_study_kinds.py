"""A study trains its models or is of one that exists: two types, two planners, two kinds of cell."""

from dataclasses import dataclass

import pytest

from consilium import Study
from consilium.core.errors import Refused
from consilium.federate.algorithms.fed_prox import FedProx
from consilium.learn.models.file import File
from consilium.study.plan.case import TrainingCase
from consilium.study.plan.nodes import TrainedModelCell, TrainingCell
from consilium.study.plan.plan import make_plan
from consilium.study.plan.planner import planner_for
from consilium.study.plan.rules import LAWS, MODEL_LAWS
from consilium.study.spec.parse import parse
from consilium.study.spec.spec import Spec, TrainedModelSpec, TrainingSpec
from consilium.study.stages.context import StageContext
from consilium.study.stages.origin_choice import origin_of
from consilium.study.stages.trained_before import TrainedBefore
from consilium.study.stages.trained_here import TrainedHere
from consilium.study.store.store import Store

DATA = {"kind": "breast-cancer", "sites": 3}
TRAINS = {
    "name": "new",
    "threads": 1,
    "data": DATA,
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 2},
}
LATER = {"compression": ["static-int8", {"kind": "prune", "sparsity": 0.5}], "answer": ["round-answer"]}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The tables of a study of a model that another study trained."""
    results = Study.of(TRAINS).run(tmp_path_factory.mktemp("stored"), quiet=True)
    path = results.folder / "models" / results.plan.cells[0].model / "model.safetensors"
    return {
        **TRAINS,
        "name": "old",
        "model": {"kind": "file", "path": str(path), "architecture": {"kind": "logistic"}},
    } | {"vary": LATER}


def of_model(stored, **changes):
    return {name: table for name, table in {**stored, **changes}.items() if name != "federation"}


def test_the_model_says_which_type_a_study_is(stored):
    trains, judges = parse(TRAINS), parse(of_model(stored))
    assert type(trains) is TrainingSpec and trains.training_configuration() == trains.federation.configuration()
    assert type(judges) is TrainedModelSpec and isinstance(judges.model, File)
    assert judges.training_configuration() is None and not hasattr(judges, "federation")


def test_a_study_of_a_trained_model_cannot_hold_what_acts_in_a_training(stored):
    judges = vars(parse(of_model(stored)))
    rest = {name: value for name, value in judges.items() if name not in ("corruptions", "canaries")}
    assert TrainedModelSpec(**rest) == parse(of_model(stored))
    for name in ("corruptions", "canaries", "federation"):
        with pytest.raises(TypeError, match=name):
            TrainedModelSpec(**rest, **{name: ()})


def test_an_arm_s_algorithm_takes_the_place_of_the_study_s_own_where_there_is_one(stored):
    trains, judges, other = parse(TRAINS), parse(of_model(stored)), FedProx()
    assert trains.with_algorithm(None) is trains and judges.with_algorithm(other) is judges
    assert trains.with_algorithm(other).federation.algorithm is other
    assert trains.with_algorithm(other).federation.shape is trains.federation.shape


@pytest.mark.parametrize(
    ("engine", "workers", "spreads"),
    [("pool", 0, True), ("stacked", 3, True), ("stacked", 1, False), ("loop", 0, False), ("auto", 0, False)],
)
def test_an_engine_spreads_a_training_over_the_cores(stored, engine, workers, spreads):
    assert (
        parse({**TRAINS, "federation": {"kind": "fed-avg", "engine": engine, "workers": workers}}).spreads_training
        is spreads
    )
    assert parse(of_model(stored)).spreads_training is False


@pytest.mark.parametrize(
    ("tables", "where"),
    [
        ({"federation": "fed-avg"}, "federation"),
        ({"audit": {"canaries": 10}}, "audit"),
        ({"corruptions": ["label-flip"]}, "corruptions[0]"),
        ({"vary": {"x": ["scaffold"]}}, "vary.x"),
        ({"vary": {"x": [["static-int8", {"kind": "dp-sgd", "epsilon": 3.0}]]}}, "vary.x"),
    ],
)
def test_the_tables_of_a_training_are_refused_at_their_place(stored, tables, where):
    with pytest.raises(Refused) as refused:
        parse({**of_model(stored), **tables})
    assert refused.value.where == where


@pytest.mark.parametrize(("attack", "what"), [("lira", "nothing was trained here"), ("update-alignment", "observes")])
def test_attacks_on_a_training_are_refused_by_the_plan(stored, attack, what):
    with pytest.raises(Refused, match=what) as refused:
        make_plan(parse(of_model(stored, attacks=["loss-threshold", attack])))
    assert refused.value.where == "attacks[1]"


def test_a_cell_follows_a_training_or_none(stored):
    plan, other = make_plan(parse({**TRAINS, "vary": LATER})), make_plan(parse(of_model(stored)))
    (node,) = plan.trainings.values()
    assert len(plan.cells) == len(other.cells) == 6
    for cell in plan.cells:
        assert type(cell) is TrainingCell and cell.node is node and cell.after == (node,)
        assert (cell.training, cell.training_recipe, cell.engine) == (node.digest, dict(node.recipe), "auto")
        assert cell.member_notes == () and plan.materials.planner.notes(0) == ()
    for cell in other.cells:
        assert type(cell) is TrainedModelCell and cell.after == () and cell.corruption is None
        assert (cell.training, cell.training_recipe, cell.engine, cell.infected_by) == (None, None, None, "none")
        assert "says nothing of safety" in cell.member_notes[0]
    assert other.trainings == other.claims == {} and "division" in other.materials.planner.notes(0)[0]


def test_where_a_model_comes_from_follows_from_its_cell(stored, tmp_path):
    for tables, kind in ((TRAINS, TrainedHere), (of_model(stored), TrainedBefore)):
        plan = make_plan(parse(tables))
        context = StageContext(plan, Store.of(tmp_path, plan.spec.name))
        origin = origin_of(context, plan.cells[0])
        assert type(origin) is kind and (origin.replay() is None) is (kind is TrainedBefore)
    assert origin.rounds() == [] and origin.retraining(()) is None and origin.personal() is None
    assert "nothing is claimed" in origin.privacy().notes[0]
    params, _ = origin.weights()
    assert bool((params == plan.materials.network(0).start()[0]).all())


def test_the_laws_of_a_trained_model_are_those_that_its_defences_can_break():
    """On an arm that acts after training alone, every other law is silent."""
    plan = make_plan(parse({**TRAINS, "vary": LATER}))
    data, net = plan.materials.consortium(0), plan.materials.network(0)
    others = [law for law in LAWS if law not in MODEL_LAWS]
    assert set(MODEL_LAWS) < set(LAWS) and others
    for arm in plan.arms:
        assert [law(TrainingCase(plan.spec, arm, data, net)) for law in others] == [None] * len(others)


def test_one_of_them_is_not_silent_where_something_is_trained():
    plan = make_plan(parse({**TRAINS, "max-epsilon": 1e9, "vary": {"p": [{"kind": "dp-sgd", "epsilon": 60.0}]}}))
    spec = parse({**TRAINS, "max-epsilon": 1.0})
    case = TrainingCase(spec, plan.arms[1], plan.materials.consortium(0), plan.materials.network(0))
    assert [law.__name__ for law in LAWS if law(case) is not None] == ["lawful_claims"]


def test_a_study_of_neither_kind_is_an_error_of_the_program():
    @dataclass(frozen=True, kw_only=True)
    class Third(Spec):
        with_algorithm, with_model, training_configuration, spreads_training = None, None, None, None

    shared = {k: v for k, v in vars(parse(TRAINS)).items() if k != "federation"}
    with pytest.raises(TypeError, match="Third is no kind of study"):
        planner_for(Third(**shared))
