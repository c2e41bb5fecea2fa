"""Engines agree: the same sites, the same batches, the same model, whatever carries the rounds."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from consilium.attack.poisoning.label_flip import LabelFlip
from consilium.core.errors import Failed, Refused
from consilium.core.exchange import Exchange, SiteHalf
from consilium.core.gradient import Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Pools, Records, Site
from consilium.core.workspace import Compute
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.scaffold import Scaffold
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import Participant, SiteState
from consilium.federate.client.vectorised_clients import _spans
from consilium.federate.engines.auto import fastest
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import Pool, why_no_fork
from consilium.federate.engines.stacked import Stacked
from consilium.federate.round.corrupted import Corrupted
from consilium.federate.round.federated_evaluation import Assessing, AssessState
from consilium.federate.round.round import FederatedRound, RoundState, ServerHalf
from consilium.federate.round.run_exchange import first_work, run_exchange
from consilium.federate.round.weighted_mean import WeightedMean
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.models.cnn import CNN
from consilium.learn.models.mlp import MLP
from consilium.learn.models.resnet9 import ResNet9
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

SIZES = (40, 23, 64, 17, 33)
SHAPE = (1, 12, 12)
pooled = pytest.mark.skipif(why_no_fork() is not None, reason=f"no pool here: {why_no_fork()}")


def records(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *SHAPE, generator=generator)
    return Records.of(x, (x.flatten(1)[:, 70:80].mean(1) * 30).long() % 3)


def federation(architecture, algorithm=None, compute=None, objective=None, rule=None, epochs=2):
    """A round over five sites of unequal sizes, and the state before it."""
    with scoped(Stream(5).child("init")):
        module = architecture if isinstance(architecture, nn.Module) else architecture.build(SHAPE, 3)
    network, algorithm = Network(module, compute), algorithm or FedAvg(lr=0.05, momentum=0.9)
    stream, schedule = Stream(7), Schedule(3, epochs, 16)
    sites = [
        Site(f"site-{k}", Pools(records(n, k), records(6, 50 + k), records(2, 90 + k))) for k, n in enumerate(SIZES)
    ]
    half = ServerHalf(tuple(s.id for s in sites), 0.8, algorithm, WeightedMean(), (), 3, SingleLabel(), stream)
    people = {
        s.id: Participant(
            s,
            s.records.train,
            float(len(s.records.train)),
            network,
            algorithm,
            objective or TaskLoss(SingleLabel()),
            rule or MeanGradient(),
            schedule,
            (),
            stream,
        )
        for s in sites
    }
    return FederatedRound(half, LocalRounds(people)), RoundState(algorithm.start(network, len(sites)))


def carried(engine, exchange, state, rounds=3):
    """The parameters after some rounds, and the sites' states."""
    held: dict[str, SiteState] = {}
    with engine:
        for number in range(1, rounds + 1):
            state = run_exchange(engine, exchange, state, held, SiteState, f"round {number}")
    return state.server.params, held


def apart(one, two) -> float:
    return float((one - two).norm() / two.norm())


ENGINES = [
    pytest.param(lambda exchange: Pool(Loop(), [exchange.site_half], workers=2), id="pool", marks=pooled),
    pytest.param(lambda exchange: Stacked(), id="stacked"),
    pytest.param(
        lambda exchange: Pool(Stacked(), [exchange.site_half], workers=2), id="stacked in a pool", marks=pooled
    ),
]


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("architecture", [MLP(hidden=9), CNN(width=3)], ids=["mlp", "cnn"])
@pytest.mark.parametrize("algorithm", [FedAvg(lr=0.05, momentum=0.9), Scaffold(lr=0.05)], ids=["fed-avg", "scaffold"])
def test_engines_agree_after_three_rounds(make, architecture, algorithm) -> None:
    expected, states = carried(Loop(), *federation(architecture, algorithm))
    exchange, state = federation(architecture, algorithm)
    params, held = carried(make(exchange), exchange, state)
    assert apart(params, expected) < 1e-5
    assert held.keys() == states.keys()
    for site in held:
        assert held[site].algorithm.tensors.keys() == states[site].algorithm.tensors.keys()
        for name, tensor in held[site].algorithm.tensors.items():
            torch.testing.assert_close(tensor, states[site].algorithm.tensors[name], rtol=1e-4, atol=1e-6)


def test_agreement_can_fail() -> None:
    """Another seed, or one step less at one site, is found."""
    expected, _ = carried(Loop(), *federation(MLP(hidden=9)))
    exchange, state = federation(MLP(hidden=9))
    person = exchange.sites["site-3"]
    exchange.sites["site-3"] = replace(person, train=person.train.select(torch.arange(6)))
    assert apart(carried(Loop(), exchange, state)[0], expected) > 1e-5


@pooled
@pytest.mark.parametrize("architecture", [CNN(width=3), ResNet9(width=2, norm="batch")], ids=["cnn", "batch norm"])
def test_the_pool_gives_the_bits_of_the_loop_however_many_workers(architecture) -> None:
    expected, _ = carried(Loop(), *federation(architecture))
    for workers in (1, 3):
        exchange, state = federation(architecture)
        assert torch.equal(carried(Pool(Loop(), [exchange.site_half], workers), exchange, state)[0], expected)


@pooled
def test_ledgers_come_back_from_the_workers() -> None:
    rule = DPSGD(noise_multiplier=1.5, delta=1e-2).rule(MeanGradient())
    _, states = carried(Loop(), *federation(MLP(hidden=9), rule=rule))
    exchange, state = federation(MLP(hidden=9), rule=rule)
    _, held = carried(Pool(Loop(), [exchange.site_half], 2), exchange, state)
    assert {s: h.ledger for s, h in held.items()} == {s: h.ledger for s, h in states.items()}
    assert all(h.ledger for h in held.values())


@pooled
def test_an_assessment_is_an_exchange_like_any_other() -> None:
    exchange, state = federation(MLP(hidden=9))
    judging = Assessing(exchange.half.algorithm, exchange.sites, SingleLabel())
    asked = AssessState(state.server, tuple(exchange.sites))
    alone = run_exchange(Loop(), judging, asked, {}, SiteState, "round 0").assessments
    with Pool(Loop(), [exchange.site_half, judging.site_half], 2) as pool:
        assert run_exchange(pool, judging, asked, {}, SiteState, "round 0").assessments == alone


class Dark(Objective):
    """Fails at a step."""

    def prepare(self, predict, x, y, generator):
        return {"x": x, "y": y}

    def losses(self, predict, batch):
        raise RuntimeError("the lights went out")


class Deadly(Dark):
    """Ends the process that runs it."""

    def losses(self, predict, batch):
        os.kill(os.getpid(), signal.SIGKILL)


@pooled
def test_an_error_in_a_worker_names_round_site_and_stage() -> None:
    exchange, state = federation(MLP(hidden=9), objective=Dark())
    with pytest.raises(Failed, match=r"round 1\.site-\d\.step 1 of \d+: the lights went out"):
        carried(Pool(Loop(), [exchange.site_half], 2), exchange, state)


@pooled
def test_a_killed_worker_is_an_error_with_a_remedy() -> None:
    exchange, state = federation(MLP(hidden=9), objective=Deadly())
    with pytest.raises(Failed, match=r"a worker process ended \(exit status -9\).*memory"):
        carried(Pool(Loop(), [exchange.site_half], 2), exchange, state)


@pooled
def test_workers_end_when_their_parent_is_killed() -> None:
    """A worker waits at its pipe; when the parent's end is gone, it goes."""
    exchange, _ = federation(MLP(hidden=9))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        pool = Pool(Loop(), [exchange.site_half], 2)
        os.write(writer, " ".join(str(w.process.pid) for w in pool._workers).encode())
        signal.pause()
    workers = [int(pid) for pid in os.read(reader, 100).split()]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 300  # only of a hang
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rule": DPSGD(noise_multiplier=1.5, delta=1e-2).rule(MeanGradient())}, "mean gradients"),
        ({"objective": Dark()}, "prepares no batches"),
        ({"compute": Compute("bf16")}, "fp32"),
    ],
)
def test_what_cannot_be_stacked_is_refused_with_its_reason(changes, reason) -> None:
    with pytest.raises(Refused, match=reason):
        carried(Stacked(), *federation(MLP(hidden=9), **changes))


class Own(nn.Linear):
    """A layer of the user's."""


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.out = nn.GRU(12, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.gru(x.reshape(-1, 12, 12))[0][:, -1])


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(144, 3)), r"draws random numbers, as 1 \(Dropout\) does"),
        (Recurrent(), r"that they draw no random number; of these it is not: the model \(Recurrent\), gru \(GRU\)\."),
        (nn.Sequential(nn.Flatten(), Own(144, 3)), r"draw no random number; of these it is not: 1 \(Own\)"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 3)), "BatchNorm"),
    ],
)
def test_layers_that_cannot_be_stacked_are_refused(module, reason) -> None:
    with pytest.raises(Refused, match=reason):
        carried(Stacked(), *federation(module))


def test_an_exchange_that_cannot_be_stacked_says_so() -> None:
    class Echo(SiteHalf):
        def site(self, phase, site, inbox, state):
            return inbox, state

    class Plain(Exchange):
        site_half = Echo()

        def open(self, server):
            return ("a",), 1

        def server(self, phase, outboxes, server):
            return server, None

    with pytest.raises(Refused, match="cannot be stacked"):
        run_exchange(Stacked(), Plain(), 0, {}, SiteState, "round 1")
    assert "cannot be stacked" in Stacked.why_not("cpu", Plain().site_half).reason
    assert Loop.why_not("cpu", Plain().site_half) is None
    assert run_exchange(Loop(), Plain(), 0, {}, SiteState, "round 1") == 0


def test_an_engine_says_why_it_cannot_carry_a_training() -> None:
    """What it says beforehand is what it raises; an adversary inside changes nothing in it."""
    stacks, _ = federation(MLP(hidden=9))
    odd, _ = federation(MLP(hidden=9), objective=Dark())
    assert (
        Stacked.why_not("cpu", stacks.site_half) is None
        and "prepares no batches" in Stacked.why_not("cpu", odd.site_half).reason
    )
    for one in (stacks, odd):
        infected = Corrupted(one, LabelFlip(1), ("site-0",))
        assert (infected.site_half.why_not_together() is None) is (one is stacks)
    assert Loop.why_not("cuda", odd.site_half) is None and (Pool.why_not("cpu", odd.site_half) is None) is (
        why_no_fork() is None
    )
    refusal = Pool.why_not("cuda:1", stacks.site_half)
    assert refusal.reason == "the pool's workers compute on the CPU, and the study on cuda:1"
    assert refusal.remedy == 'use "loop"'


def test_performance_knobs_change_rounding_and_no_more() -> None:
    expected, _ = carried(Loop(), *federation(CNN(width=3)))
    for compute, most in ((Compute(layout="channels-last"), 1e-5), (Compute("bf16"), 2e-2)):
        params, _ = carried(Loop(), *federation(CNN(width=3), compute=compute))
        assert params.dtype == torch.float32
        assert 0 < apart(params, expected) < most or compute.layout == "channels-last"


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        carried(Loop(), *federation(MLP(hidden=9)), rounds=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Slow(Loop):
    """A loop that takes its time, on a clock that nothing else moves."""

    now = 0.0

    def __init__(self, seconds: float) -> None:
        self.seconds, self.closed = seconds, False

    def carry(self, work):
        Slow.now += self.seconds * len(work.cohort)
        return super().carry(work)

    def close(self) -> None:
        self.closed = True


def test_auto_takes_the_fastest_and_closes_the_others(monkeypatch) -> None:
    monkeypatch.setattr("consilium.federate.engines.auto.time.perf_counter", lambda: Slow.now)
    exchange, state = federation(MLP(hidden=9))
    loop, quick, slow = Slow(0.1), Slow(0.01), Slow(0.2)
    made, choice = fastest(
        {"loop": lambda: loop, "pool": lambda: quick, "stacked": lambda: slow},
        first_work(exchange, state, SiteState),
        1000,
    )
    assert made is quick
    assert (loop.closed, quick.closed, slow.closed) == (True, False, True)
    assert choice.kind == "pool"
    assert choice.seconds_per_site["loop"] > choice.seconds_per_site["pool"]


def test_auto_starts_no_process_for_a_training_of_seconds() -> None:
    exchange, state = federation(MLP(hidden=9))
    made, choice = fastest(
        {"loop": Loop, "pool": lambda: pytest.fail("started")}, first_work(exchange, state, SiteState), 2
    )
    assert isinstance(made, Loop)
    assert "not worth" in choice.why


def test_a_failing_probe_leaves_the_error_to_the_training() -> None:
    exchange, state = federation(MLP(hidden=9), objective=Dark())
    made, choice = fastest(
        {"loop": Loop, "pool": lambda: pytest.fail("started")}, first_work(exchange, state, SiteState), 1000
    )
    assert isinstance(made, Loop)
    assert choice.to_json()["seconds_per_site"] == {}


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself
def test_a_compiled_stack_agrees_too() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))  # small: compiling is what takes the time
    expected, _ = carried(Loop(), *federation(module), rounds=1)
    exchange, state = federation(module)  # two epochs: 8 to 4 steps, so four of all sites are one graph
    exchange = FederatedRound(exchange.half, LocalRounds(exchange.sites, compiled=True))
    assert apart(carried(Stacked(), exchange, state, rounds=1)[0], expected) < 1e-5


def test_spans_cover_every_step_once_with_the_sites_that_are_still_at_work() -> None:
    lengths = [9, 9, 6, 1]
    spans = list(_spans(lengths, 4))
    assert [step for steps, _ in spans for step in steps] == list(range(9))
    assert all(active == sum(step < length for length in lengths) for steps, active in spans for step in steps)
    assert [(len(steps), active) for steps, active in spans] == [(1, 4), (4, 3), (1, 3), (1, 2), (1, 2), (1, 2)]


def test_an_objective_that_prepares_is_never_taken_for_a_plain_one() -> None:
    class Darker(TaskLoss):
        def prepare(self, predict, x, y, generator):
            return {"x": x / 2, "y": y}

    assert TaskLoss(SingleLabel()).plain
    with pytest.raises(Refused, match="prepares no batches and no rounds, as Darker does"):
        carried(Stacked(), *federation(MLP(hidden=9), objective=Darker(SingleLabel())))
    assert (
        apart(
            carried(Loop(), *federation(MLP(hidden=9), objective=Darker(SingleLabel())))[0],
            carried(Loop(), *federation(MLP(hidden=9)))[0],
        )
        > 1e-3
    )
