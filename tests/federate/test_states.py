"""States on disk: the same as in memory, valid with their round's checkpoint and not before, bounded on disk."""

from __future__ import annotations

import json

import pytest
import torch

from consilium.core.algorithm import AlgorithmState
from consilium.core.charge import Composed, Gaussian
from consilium.core.errors import Failed, Refused
from consilium.core.gradient import Schedule
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.algorithms.scaffold import Scaffold
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.client import client_states as module
from consilium.federate.client.client_states import SiteStates
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.round.round import RoundState
from consilium.federate.train import train
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.tasks.single_label import SingleLabel

ROUNDS = 5


def state(number: float = 1.0, count: int = 1) -> SiteState:
    kept = AlgorithmState({"control": torch.full((3,), number), "empty": torch.zeros(0)})
    return SiteState(kept, (Composed(Gaussian(2.0), count),), {"top-k": {"residual": torch.tensor([number])}})


def plain(held: SiteState):
    kept = {name: t.tolist() for name, t in held.algorithm.tensors.items()}
    return kept, held.ledger, {k: {n: t.tolist() for n, t in m.items()} for k, m in held.defences.items()}


@pytest.fixture(params=["memory", "disk"])
def states(request, tmp_path) -> SiteStates:
    return SiteStates(tmp_path / "states" if request.param == "disk" else None)


def files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_what_is_put_in_comes_out(states) -> None:
    states["site-1"] = state(1.0)
    states["site-2"] = state(2.0, 5)
    assert plain(states["site-1"]) == plain(state(1.0)) and plain(states["site-2"]) == plain(state(2.0, 5))
    assert list(states) == ["site-1", "site-2"] and len(states) == 2 and "site-3" not in states
    with pytest.raises(KeyError):
        states["site-3"]
    with pytest.raises(Failed, match="never deleted"):
        del states["site-1"]


def test_lost_work_is_rolled_back_and_stays_paid(states) -> None:
    states["site-1"] = state(1.0, 1)
    states.settle(1)
    states["site-1"] = state(2.0, 2)
    states["site-2"] = state(3.0, 1)
    states.roll_back(["site-1", "site-2", "site-9"])
    assert plain(states["site-1"]) == plain(state(1.0, 2))
    assert plain(states["site-2"]) == ({}, state(3.0, 1).ledger, {})
    states.settle(2)
    states.roll_back(["site-1"])  # nothing was done since
    assert plain(states["site-1"]) == plain(state(1.0, 2))


def test_pieces_of_one_tensor_are_stored_as_pieces(tmp_path) -> None:
    whole, states = torch.arange(1000.0), SiteStates(tmp_path)
    states["a"] = SiteState(AlgorithmState({"first": whole[:3], "rest": whole[3:5], "again": whole[:3].view(3, 1)}))
    kept = {"first": [0.0, 1.0, 2.0], "rest": [3.0, 4.0], "again": [[0.0], [1.0], [2.0]]}
    assert plain(states["a"])[0] == kept and (tmp_path / "a.1.safetensors").stat().st_size < 1000


def test_a_site_that_keeps_nothing_has_no_file(tmp_path) -> None:
    states = SiteStates(tmp_path)
    states["site-1"] = SiteState()
    assert "site-1" not in states and files(tmp_path) == []


def test_a_file_of_a_round_without_a_checkpoint_does_not_count(tmp_path) -> None:
    states = SiteStates(tmp_path)
    states["a"], states["b"] = state(1.0), state(1.0)
    states.settle(1)
    states["a"], states["c"] = state(2.0), state(2.0)
    assert files(tmp_path) == ["a.1.safetensors", "a.2.safetensors", "b.1.safetensors", "c.2.safetensors"]
    (tmp_path / "b.2.safetensors").write_bytes(b"half")
    again = SiteStates(tmp_path, round=1)  # as after a kill
    assert plain(again["a"]) == plain(state(1.0)) and plain(again["b"]) == plain(state(1.0)) and "c" not in again
    assert len(files(tmp_path)) == 5  # who only reads removes nothing: the training may be running
    again.clean()
    assert files(tmp_path) == ["a.1.safetensors", "b.1.safetensors"]


def test_a_replaced_file_is_written_over_once_the_checkpoint_is_there_and_goes_in_the_end(tmp_path) -> None:
    states = SiteStates(tmp_path)
    for number in range(1, 6):
        states["a"] = SiteState(AlgorithmState({"control": torch.ones(number % 3 * 100)}))  # now longer, now shorter
        states["a"] = state(number)
        states.flush()
        assert plain(states["a"]) == plain(state(number))
        states.settle(number)
        assert files(tmp_path) == [f"a.{k}.safetensors" for k in range(max(1, number - 1), number + 1)]
    states.clean()
    assert files(tmp_path) == ["a.5.safetensors"]
    states["a"] = state(6.0)  # its checkpoint is written, and then it is killed
    again = SiteStates(tmp_path, round=6)
    again.clean()
    assert files(tmp_path) == ["a.6.safetensors"] and plain(again["a"]) == plain(state(6.0))


@pytest.mark.parametrize(
    "names", [("A", "a"), ("x.1", "x"), ("../../etc", "%2E"), ("Zürich", "zürich"), ("a b", "a%20b")]
)
def test_no_two_sites_share_a_file_and_none_leaves_the_folder(tmp_path, names) -> None:
    states = SiteStates(tmp_path / "states")
    for number, name in enumerate(names):
        states[name] = state(number)
    states.settle(1)
    assert len({name.lower() for name in files(tmp_path / "states")}) == 2 and files(tmp_path) == ["states"]
    again = SiteStates(tmp_path / "states", round=1)
    assert sorted(again) == sorted(names)
    assert all(plain(again[name]) == plain(state(number)) for number, name in enumerate(names))


def test_a_name_too_long_for_a_file_is_refused(tmp_path) -> None:
    with pytest.raises(Refused, match="too long a name"):
        SiteStates(tmp_path)["x" * 300] = state()


def test_a_broken_file_is_named(tmp_path) -> None:
    states = SiteStates(tmp_path)
    states["a"] = state()
    (tmp_path / "a.1.safetensors").write_bytes(b"not tensors")
    with pytest.raises(Failed, match=r"a\.1\.safetensors is not readable"):
        states["a"]


def test_few_and_small_stay_in_memory_many_or_large_go_to_disk(tmp_path) -> None:
    assert SiteStates.fit(tmp_path, 500, 4000).folder is None
    assert SiteStates.fit(tmp_path, 501, 4).folder == tmp_path
    assert SiteStates.fit(tmp_path, 100, 10**6).folder == tmp_path


class Stop(Exception):
    """Whoever pulled the plug."""


def trained(folder, federation, network, stop=None):
    """Scaffold under DP; ``stop`` (round, site) pulls the plug when that site has worked."""
    rule = DPSGD(noise_multiplier=2.0, delta=1e-3).rule(MeanGradient())
    exchange = federation(Scaffold(lr=0.1), Schedule(ROUNDS, 1, 7), 0.67, rule=rule)
    start = RoundState(exchange.half.algorithm.start(network, 3))
    assessing = Assessing(exchange.half.algorithm, exchange.sites, SingleLabel())
    inner = SiteStates.__setitem__

    def put(self, site, held):
        inner(self, site, held)
        if stop is not None and self.round + 1 == stop:
            raise Stop

    SiteStates.__setitem__ = put
    try:
        return train(Loop(), exchange, assessing, start, ROUNDS, folder, lambda *_: None)
    finally:
        SiteStates.__setitem__ = inner


def test_disk_and_memory_train_the_same_and_a_stop_inside_a_round_changes_nothing(
    tmp_path, federation, network, monkeypatch
) -> None:
    memory = trained(tmp_path / "memory", federation, network)
    monkeypatch.setattr(module, "_SITES", 2)
    disk = trained(tmp_path / "disk", federation, network)
    for stop in (1, 3, 5):
        with pytest.raises(Stop):
            trained(tmp_path / "cut", federation, network, stop)
    cut = trained(tmp_path / "cut", federation, network)
    assert cut.resumed_from == 4
    for done in (disk, cut):
        assert torch.equal(done.state.server.params, memory.state.server.params)
        assert {s: plain(h) for s, h in done.sites.items()} == {s: plain(h) for s, h in memory.sites.items()}
    assert files(tmp_path / "cut" / "states") == files(tmp_path / "disk" / "states")
    assert len(files(tmp_path / "disk" / "states")) == 3 and files(tmp_path / "memory" / "states") == []
    checkpoints = [tmp_path / name / "checkpoint.safetensors" for name in ("disk", "cut")]
    assert checkpoints[0].read_bytes() == checkpoints[1].read_bytes()
    _, held = load_checkpoint(checkpoints[0])
    assert {s: plain(h) for s, h in held.items()} == {s: plain(h) for s, h in memory.sites.items()}


def test_the_comparison_can_fail(tmp_path, federation, network, monkeypatch) -> None:
    """A resume that takes the newest files, checkpoint or none, ends elsewhere."""
    monkeypatch.setattr(module, "_SITES", 2)
    right = trained(tmp_path / "right", federation, network)
    with pytest.raises(Stop):
        trained(tmp_path / "wrong", federation, network, 3)
    found = SiteStates._state_files

    def newest(self, folder):
        self.round += 1
        yield from found(self, folder)
        self.round -= 1

    monkeypatch.setattr(SiteStates, "_state_files", newest)
    wrong = trained(tmp_path / "wrong", federation, network)
    assert {s: h.ledger for s, h in wrong.sites.items()} != {s: h.ledger for s, h in right.sites.items()}


def test_a_round_reads_and_writes_the_states_of_its_cohort_only(tmp_path, federation, network, monkeypatch) -> None:
    monkeypatch.setattr(module, "_SITES", 2)
    read = []
    inner = SiteStates._read
    monkeypatch.setattr(SiteStates, "_read", lambda self, site, number: read.append(site) or inner(self, site, number))
    trained(tmp_path, federation, network)
    assert 0 < len(read) <= 2 * ROUNDS


def test_a_log_line_cut_by_a_kill_is_dropped_even_where_it_looks_whole(
    tmp_path, federation, network, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_SITES", 2)
    whole = trained(tmp_path / "whole", federation, network)
    with pytest.raises(Stop):
        trained(tmp_path / "cut", federation, network, 3)
    log = tmp_path / "cut" / "rounds.jsonl"
    kept = log.read_text()
    line = kept.splitlines()[0].replace('"round": 1', '"round": 3')
    cut = line[: line.index("}") + 1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut)
    for torn in (cut, line):  # without its newline, more may have been to come
        log.write_text(kept + torn)
        with pytest.raises(Stop):
            trained(tmp_path / "cut", federation, network, 3)
        assert log.read_text() == kept
    again = trained(tmp_path / "cut", federation, network)
    assert [json.loads(line)["round"] for line in log.read_text().splitlines()] == [1, 2, 3, 4, 5]
    assert torch.equal(again.state.server.params, whole.state.server.params)


def test_a_state_that_was_changed_or_is_of_another_training_site_or_round_is_refused(tmp_path) -> None:
    states = SiteStates(tmp_path, training="one")
    for site in ("site-1", "site-2"):
        states[site] = state()
    states.settle(1)
    path = tmp_path / "site-1.1.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Failed, match=r"site-1\.1\.safetensors was changed after it was written"):
        states["site-1"]
    path.write_bytes((tmp_path / "site-2.1.safetensors").read_bytes())
    with pytest.raises(Failed, match="is of site 'site-2', not of 'site-1'"):
        states["site-1"]
    path.write_bytes(whole)
    with pytest.raises(Failed, match="is of training 'one', not of 'two'"):
        SiteStates(tmp_path, 1, training="two")["site-1"]
    path.rename(tmp_path / "site-1.2.safetensors")
    with pytest.raises(Failed, match="is of round 1, not of 2"):
        SiteStates(tmp_path, 2, training="one")["site-1"]
