"""One contract for every defence, new files too (KNOBS where there are no defaults); a broken entry for each check."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from consilium.core import catalogue
from consilium.core.charge import Charge, Gaussian
from consilium.core.defence import (
    AnswerDefence,
    DataDefence,
    MergeDefence,
    ModelDefence,
    TrainingDefence,
    UpdateDefence,
)
from consilium.core.errors import Refused
from consilium.core.gradient import Schedule
from consilium.core.merge import Cohort
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.core.update import Update
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.accounting.privacy import epsilon

ROOMS = [room for room in catalogue.ROOMS if room.startswith("defend/")]
KNOBS = {
    "dp-sgd": {"noise_multiplier": 1.0, "delta": 1e-3},
    "dp-fed-avg": {"noise_multiplier": 1.0},
    "prune": {"sparsity": 0.5, "fine_tune_steps": 3},
    "defense-gan": {"batches": 3, "hidden": 8, "steps": 3, "starts": 2},
    "learned-detector": {"epochs": 10, "steps": 2},
}
CLASSES = 3
LAYERS = Network(nn.Linear(5, 5))
"""A network of as many parameters as the world's updates have."""


def entries(room=None):
    """Every installed defence (of one room), made with its defaults."""
    for name in ROOMS if room is None else [f"defend/{room}"]:
        for card in catalogue.cards(name):
            yield catalogue.load_entry(card)(**KNOBS.get(card.kind, {}))


def every(room=None):
    return pytest.mark.parametrize("defence", list(entries(room)), ids=lambda d: d.kind())


# --- the world in which every defence is run ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class World:
    """Something for each moment to act on."""

    records: Records
    public: Records
    module: nn.Module
    updates: tuple[Update, ...]
    probabilities: torch.Tensor

    def tensors(self):
        yield from (self.records.x, self.records.y, self.public.x, self.public.y, self.probabilities)
        yield from self.module.state_dict().values()
        for update in self.updates:
            yield from update.payload.values()


def world() -> World:
    g = Stream(11).generator()

    def records(n):
        return Records.of(torch.rand(n, 1, 12, 12, generator=g), torch.arange(n) % CLASSES)

    with scoped(Stream(12)):
        module = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, CLASSES),
        )  # fmt: skip
    updates = tuple(
        Update(f"site-{k}", 1, 1.0 + k, {"delta": 3 * torch.randn(30, generator=g), "buffers": torch.ones(4)})
        for k in range(7)
    )
    probabilities = torch.rand(9, CLASSES, generator=g).softmax(1)
    return World(records(24), records(40), module.eval().requires_grad_(False), updates, probabilities)


def run(defence, made: World, seed=0) -> list[torch.Tensor]:
    """What a defence makes of the world, whatever its moment."""
    stream = Stream(seed, ("contract",))
    match defence:
        case DataDefence():
            after = defence.protect(made.records, CLASSES, stream)
            return [after.x, after.y]
        case TrainingDefence():
            return _gradients(defence, made, stream)
        case UpdateDefence():
            sent = [_through(defence.made_for(LAYERS), u, stream.child(u.site)) for u in made.updates]
            return [t for u in sent for t in u.payload.values()]
        case MergeDefence():
            return [
                t for rule in rules(defence, made.updates[0]) for t in rule.merge(made.updates, {})[0].payload.values()
            ]
        case ModelDefence():
            defended = defence.apply(made.module, made.public, stream, SingleLabel())
            return [defended(made.records.x), *defence.pack(defended).values()]
        case AnswerDefence():
            return [defence.answer(made.probabilities)]
    raise AssertionError(f"{defence} belongs to no moment")


def rules(defence, root):
    """The merge by itself, and as a training has it: for a cohort, with draws, and with the server's own update."""
    cohort, stream = Cohort(7, 3), Stream(5, ("merge",))
    return [rule.at(lambda: root.payload) for rule in (defence.merge(), defence.merge_for(cohort, stream))]


def _gradients(defence, made, stream):
    network = Network(copy.deepcopy(made.module).requires_grad_(True))
    params, buffers = network.start()
    rule, objective = defence.rule(MeanGradient()), defence.objective(TaskLoss(SingleLabel()))
    oracle = rule.oracle(made.records, network, objective, Schedule(1, 1, 8), stream)
    return [oracle(params, buffers).value for _ in range(oracle.steps)]


# --- the checks ---------------------------------------------------------------------------------------------------


def same_seed_same_result(defence, contract):
    one, two = run(defence, world()), run(defence, world())
    assert len(one) == len(two)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def leaves_everything_else_alone(defence, contract):
    made = world()
    engine, threads = torch.backends.quantized.engine, torch.get_num_threads()
    with contract.untouched(made.module, *made.tensors()):
        run(defence, made)
    assert (engine, threads) == (torch.backends.quantized.engine, torch.get_num_threads())


def round_trips_through_a_study_file(defence, contract):
    contract.round_trips(defence)


def changes_labels_at_most(defence, contract):
    made = world()
    after = defence.protect(made.records, CLASSES, Stream(0))
    assert len(after) == len(made.records)
    assert torch.equal(after.ids, made.records.ids)
    assert torch.equal(after.units, made.records.units)
    assert after.y.dtype == torch.int64
    assert 0 <= int(after.y.min()) <= int(after.y.max()) < CLASSES
    assert 0 <= float(after.x.min()) <= float(after.x.max()) <= 1


def is_charged_in_known_terms(defence, contract):
    """What is claimed is computed by the accountant; what claims nothing charges nothing."""
    work = Schedule(1, 1, 8)
    if isinstance(defence, DataDefence):
        charge, delta = defence.charge(CLASSES), 1e-5
    else:
        rule = defence.rule(MeanGradient())
        charge, delta = rule.step_charge(24, work), rule.delta
        assert (charge is None) == (delta is None)
    if charge is not None:
        assert 0 < epsilon([charge], delta).epsilon < float("inf")


def site_and_server_half_agree(defence, contract):
    """The server half does nothing to what an honest site sent, and binds a site that skipped its own half.

    What defines the message (a codec) has a suite of its own; here it refuses a site that does not speak it.
    """
    for sent in world().updates:
        if defence.stage in ("compress", "mask"):
            read = _through(defence.made_for(LAYERS), sent, Stream(0))
            assert {n: t.shape for n, t in read.payload.items()} == {n: t.shape for n, t in sent.payload.items()}
            contract.refuses(lambda raw=sent: _enforced(defence.made_for(LAYERS), raw), defence.kind(), "missing")
            continue
        honest, _ = defence.protect(sent, {}, Stream(0))
        assert _payload(_enforced(defence, honest)) == _payload(honest)
        bound = _enforced(defence, sent)
        assert _payload(_enforced(defence, bound)) == _payload(bound)
        assert (bound.site, bound.round, bound.weight) == (sent.site, sent.round, sent.weight)


def _through(defence, update, stream):
    return _enforced(defence, defence.protect(update, {}, stream)[0], like=update)


def _enforced(defence, update, like=None):
    return defence.enforce(update, {name: tuple(t.shape) for name, t in (like or update).payload.items()})


def _payload(update):
    return {name: t.tolist() for name, t in update.payload.items()}


def answers_confidences(defence, contract):
    made = world()
    answered = defence.answer(made.probabilities)
    assert answered.shape == made.probabilities.shape
    assert 0 <= float(answered.min()) <= float(answered.max()) <= 1
    assert torch.equal(defence.answer(answered), answered)


def answers_each_record_by_itself(defence, contract):
    """In any company, and the same whenever it is asked."""
    made = world()
    asked = defence.around(made.module)
    with torch.no_grad():
        together = asked(made.records.x)
        assert torch.equal(asked(made.records.x), together)
        alone = torch.cat([asked(x[None]) for x in made.records.x])
        assert torch.allclose(alone, together, atol=1e-4)


def hides_no_gradient(defence, contract):
    """A surrogate, where there is one, can be followed: the attack is adaptive, or is said not to be."""
    made = world()
    surrogate = defence.surrogate(made.module)
    if surrogate is not None:
        x = made.records.x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(surrogate(x).sum(), x)
        assert float(gradient.abs().max()) > 0


ALWAYS = [same_seed_same_result, leaves_everything_else_alone, round_trips_through_a_study_file]
BY_ROOM: dict[str, list[Callable]] = {
    "data": [changes_labels_at_most, is_charged_in_known_terms],
    "training": [is_charged_in_known_terms],
    "update": [site_and_server_half_agree],
    "merge": [],
    "model": [],
    "answer": [answers_confidences, answers_each_record_by_itself, hides_no_gradient],
    "detection": [],
}
"""What a room's entries promise beyond ALWAYS; merges, models and detectors have suites of their own."""

PAIRS = [
    pytest.param(check, defence, id=f"{defence.kind()}-{check.__name__}")
    for room in BY_ROOM
    for defence in entries(room)
    for check in [*ALWAYS, *BY_ROOM[room]]
]


def test_every_moment_has_a_defence():
    assert {room.removeprefix("defend/") for room in ROOMS} == set(BY_ROOM)
    for room in BY_ROOM:
        assert list(entries(room)), room


@pytest.mark.parametrize(("check", "defence"), PAIRS)
def test_contract(check, defence, contract):
    check(defence, contract)


@pytest.mark.parametrize("card", [c for room in ROOMS for c in catalogue.cards(room)], ids=lambda c: c.kind)
def test_it_says_what_it_is(card, contract):
    contract.documented(card)
    assert "required" not in card.knobs.values()


@every()
def test_its_kind_is_its_file(defence):
    assert catalogue.find(defence.kind(), *ROOMS).name == type(defence).__name__


# --- broken entries: each must fail the check named beside it -----------------------------------------------------


@dataclass(frozen=True)
class Forgetful(DataDefence):
    """Draws from the global generator."""

    def protect(self, records, classes, stream):
        return records.relabelled(torch.randint(classes, records.y.shape))

    def charge(self, classes):
        return None


@dataclass(frozen=True)
class Meddler(DataDefence):
    """Writes on what it was handed, drops a record, and claims in words that no accountant knows."""

    def protect(self, records, classes, stream):
        records.y.add_(1)
        return records.select(torch.arange(len(records) - 1))

    def charge(self, classes):
        return Charge()


@dataclass(frozen=True)
class Unbounded(TrainingDefence):
    """Promises epsilon without noise."""

    def rule(self, rule):
        class Silent(MeanGradient):
            delta = 1e-5

            def step_charge(self, n, schedule):
                return Gaussian(0.0)

        return Silent()


@dataclass(frozen=True)
class Shrinking(UpdateDefence):
    """Halves whatever passes, so twice is not once."""

    def protect(self, update, memory, stream):
        return self.enforce(update, {}), memory

    def enforce(self, update, expected):
        payload = {name: t / 2 for name, t in update.payload.items()}
        return Update(update.site, update.round, update.weight, payload)


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :CLASSES] * 0


class Company(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x - x.mean(0))


@dataclass(frozen=True)
class Doubling(AnswerDefence):
    """Confidences above one, and inputs compared with those of their batch."""

    def around(self, model):
        return Company(model)

    def answer(self, probabilities):
        return probabilities * 2

    def surrogate(self, before):
        return Flat()


@dataclass(frozen=True)
class Untyped(AnswerDefence):
    """A knob that is None when the study says so, and 3 when it is left out: a file cannot give it back."""

    knob: int | None = 3

    def answer(self, probabilities):
        return probabilities

    def surrogate(self, before):
        return before


BROKEN = [
    (same_seed_same_result, Forgetful()),
    (leaves_everything_else_alone, Forgetful()),
    (leaves_everything_else_alone, Meddler()),
    (round_trips_through_a_study_file, Untyped(knob=None)),
    (changes_labels_at_most, Meddler()),
    (is_charged_in_known_terms, Meddler()),
    (is_charged_in_known_terms, Unbounded()),
    (site_and_server_half_agree, Shrinking()),
    (answers_confidences, Doubling()),
    (answers_each_record_by_itself, Doubling()),
    (hides_no_gradient, Doubling()),
]


@pytest.mark.parametrize(("check", "broken"), BROKEN, ids=lambda v: getattr(v, "__name__", type(v).__name__))
def test_a_broken_entry_fails(check, broken, contract):
    with pytest.raises((AssertionError, Refused)):
        check(broken, contract)


def test_every_check_has_a_broken_entry():
    used = {*ALWAYS, *(check for checks in BY_ROOM.values() for check in checks)}
    assert used == {check for check, _ in BROKEN}
