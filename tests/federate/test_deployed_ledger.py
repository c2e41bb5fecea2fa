"""A site's ledger: it remembers over studies, restarts and crashes, and whoever touches it is found out."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.core.charge import Composed, Gaussian, PoissonSampled, RandomisedResponse
from consilium.core.errors import Failed, Refused, Unlawful
from consilium.core.records import Records
from consilium.deploy.site import journal, ledger
from consilium.deploy.site.ledger import Budget, open_ledger
from consilium.deploy.site.record_tokens import fingerprint
from consilium.measure.accounting.privacy import epsilon

DELTA = 1e-5
STUDY, OTHER = "a" * 64, "b" * 64
ROUND = (Composed(PoissonSampled(0.1, Gaussian(1.0)), 10),)
FREE = Budget()
KEY = bytes(32)


def records(n=40, seed=1, units=None):
    g = torch.Generator().manual_seed(seed)
    return Records.of(torch.rand(n, 4, generator=g), torch.randint(2, (n,), generator=g), units)


def joined(*parts):
    return Records.of(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))


def cost(*rounds):
    return epsilon(tuple(c for charges in rounds for c in charges), DELTA).epsilon


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ledger"


def pay(folder, data, study=STUDY, round=1, inbox=b"w1", charges=ROUND, budget=FREE, **more):
    with open_ledger(folder) as held:
        held.claim(study, round, inbox, held.fingerprint(data), charges, budget, **more)


def spent(folder, data):
    with open_ledger(folder) as held:
        return held.cost(held.fingerprint(data), DELTA)


# --- whose records ------------------------------------------------------------------------------------------------


def test_the_stored_tokens_do_not_tell_the_records(folder):
    data = records(3)
    pay(folder, data)
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "secret")
    for row in data.x.numpy():
        assert row.tobytes() not in stored
    assert fingerprint(data, KEY).tokens() not in stored, "another key gives other tokens"
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*") if path.suffix in {".json", ".bin"})


# --- what was spent -----------------------------------------------------------------------------------------------


def test_rounds_compose_as_the_accountant_says_over_studies_and_restarts(folder):
    data = records()
    assert spent(folder, data) == 0
    pay(folder, data, round=1)
    pay(folder, data, round=2)
    pay(folder, data, study=OTHER)
    assert spent(folder, data) == pytest.approx(cost(ROUND, ROUND, ROUND), rel=1e-9)


def test_renaming_the_study_shuffling_or_changing_the_data_makes_no_fresh_budget(folder):
    data = records()
    pay(folder, data)
    shuffled = data.select(torch.randperm(40, generator=torch.Generator().manual_seed(3)))
    one_kept = joined(data.select(torch.arange(1)), records(80, seed=9))
    for changed in (shuffled, joined(data, records(5, seed=8)), data.select(torch.arange(7)), one_kept):
        assert spent(folder, changed) == pytest.approx(cost(ROUND), rel=1e-9)
    assert spent(folder, records(80, seed=9)) == 0, "and other records have one"


def test_the_cost_is_that_of_the_person_who_stands_in_most(folder):
    """A on D1, B on D2, disjoint: a study on both costs each person one earlier study, not two."""
    one, two, both = records(seed=1), records(seed=2), joined(records(seed=1), records(seed=2))
    pay(folder, one)
    pay(folder, two, study=OTHER)
    assert spent(folder, both) == pytest.approx(cost(ROUND), rel=1e-9)
    pay(folder, both, study="c" * 64)
    assert spent(folder, one) == pytest.approx(cost(ROUND, ROUND), rel=1e-9)
    pay(folder, joined(one, two.select(torch.arange(1))), study="d" * 64)
    assert spent(folder, two) == pytest.approx(cost(ROUND, ROUND, ROUND), rel=1e-9)


def test_a_person_is_known_by_any_record_and_by_name(folder):
    """Two images a patient: a study on the first ones, then one on the second ones of the same patients."""
    first, second = records(seed=1), records(seed=2)
    names = [f"patient {k}" for k in range(40)]
    patients = Records.of(torch.cat([first.x, second.x]), torch.cat([first.y, second.y]), torch.arange(40).repeat(2))
    pay(folder, patients)
    assert spent(folder, second) == pytest.approx(cost(ROUND), rel=1e-9)
    with open_ledger(folder.with_name("by-name")) as held:
        held.claim(STUDY, 1, b"w", held.fingerprint(first, names), ROUND, FREE)
        assert held.cost(held.fingerprint(second), DELTA) == 0, "content alone does not tell"
        assert held.cost(held.fingerprint(second, names), DELTA) > 0


def test_learning_without_privacy_has_no_finite_cost(folder):
    data = records()
    pay(folder, data, charges=None)
    assert spent(folder, data) == float("inf")
    with pytest.raises(Refused, match=r"asks for epsilon .*; 0 of 5 is left"):
        pay(folder, data, round=2, budget=Budget(5.0, DELTA))


# --- the budget ---------------------------------------------------------------------------------------------------


def test_rounds_are_paid_until_the_budget_is_spent_and_not_one_more(folder):
    data, paid, small = records(), 0, (Composed(PoissonSampled(0.1, Gaussian(2.0)), 10),)
    budget = Budget(2.0, DELTA)
    with pytest.raises(Refused, match=r"budget\.epsilon: the study asks for epsilon .* of 2 is left for these records"):
        for number in range(1, 60):
            pay(folder, data, round=number, charges=small, budget=budget)
            paid = number
    assert cost(*[small] * paid) <= 2.0 < cost(*[small] * (paid + 1)) and paid > 2
    assert spent(folder, data) <= 2.0
    pay(folder, records(seed=5), charges=small, budget=budget)


def test_a_budget_refuses_learning_without_privacy_and_a_delta_above_one_over_n(folder):
    with pytest.raises(Refused, match="without differential privacy"):
        pay(folder, records(), charges=None, budget=Budget(5.0, DELTA))
    with pytest.raises(Unlawful, match="not below 1/n for 40") as e:
        pay(folder, records(), budget=Budget(5.0, 0.1))
    assert float(e.value.remedy.split("below ")[1]) * 40 <= 1, "to the nearest digit 1/40 is 0.03"
    assert spent(folder, records()) == 0, "what was refused is not paid"


def test_labels_are_paid_once_a_study_and_again_when_the_records_move(folder):
    data, coin, budget = records(), (RandomisedResponse(1.0, 2),), Budget(labels=2.5)
    for number in range(1, 5):
        pay(folder, data, round=number, charges=None, labels=coin, budget=budget)
    with open_ledger(folder) as held:
        mine = held.fingerprint(data)
        assert held.label_cost(mine) == 1.0
        turned = held.fingerprint(data.select(torch.arange(39, -1, -1)))
        assert held.stream_key(STUDY, mine).derive("x") != held.stream_key(STUDY, turned).derive("x")
        held.claim(STUDY, 5, b"w", turned, None, budget, coin)
        assert held.label_cost(mine) == 2.0
        with pytest.raises(Refused, match=r"budget\.labels: the study asks for epsilon 1; 0\.5 of 2\.5 is left"):
            held.claim(OTHER, 1, b"w", mine, None, budget, coin)
    with pytest.raises(Unlawful, match="never added"):
        pay(folder, data, charges=coin)


def test_a_budget_of_labels_refuses_labels_as_they_are(folder):
    data, budget = records(), Budget(labels=2.5)
    with pytest.raises(Refused, match="labels without randomisation"):
        pay(folder, data, charges=None, budget=budget)
    pay(folder, data, charges=ROUND, budget=budget)
    pay(folder, data, charges=None)
    with pytest.raises(Refused, match=r"0 of 2\.5 is left"):
        pay(folder, data, charges=None, labels=(RandomisedResponse(1.0, 2),), budget=budget)


# --- crash, retry ------ -----------------------------------------------------------------------------------------


def test_whatever_is_computed_again_is_paid_again(folder):
    """Sending stored bytes again needs no claim; a claim is always paid."""
    pay(folder, records())
    pay(folder, records())
    assert spent(folder, records()) == pytest.approx(cost(ROUND, ROUND), rel=1e-9)


def test_a_crash_after_the_claim_is_spent_and_the_round_is_paid_again(folder):
    """A process that is killed as soon as the claim returns: no flush, no handler, nothing."""

    def child():
        with open_ledger(folder) as held:
            held.claim(STUDY, 1, b"w1", held.fingerprint(records()), ROUND, FREE)
            os.kill(os.getpid(), signal.SIGKILL)

    killed = multiprocessing.get_context("fork").Process(target=child)
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    assert spent(folder, records()) == pytest.approx(cost(ROUND), rel=1e-9)
    pay(folder, records())
    assert spent(folder, records()) == pytest.approx(cost(ROUND, ROUND), rel=1e-9)
    with open_ledger(folder) as held:
        assert held.paid(STUDY) == (1, 1)


def test_a_claim_is_on_disk_before_it_returns(folder, monkeypatch):
    """The journal's own bytes are fsynced; a write that is only flushed would be lost with the power."""
    with open_ledger(folder) as held:
        synced, real = [], os.fsync

        def sync(number):
            synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
            real(number)

        monkeypatch.setattr(os, "fsync", sync)
        held.claim(STUDY, 1, b"w1", held.fingerprint(records()), ROUND, FREE)
        assert str(folder / "journal.jsonl") in synced


def test_a_full_disk_pays_nothing_and_leaves_the_ledger_as_it_was(folder, monkeypatch):
    pay(folder, records())
    before = (folder / "journal.jsonl").read_bytes()
    real = os.fsync

    def full(number):
        if str(Path(f"/proc/self/fd/{number}").readlink()).endswith("journal.jsonl"):
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failed, match=r"No space left on device.*nothing was sent"):
        pay(folder, records(), round=2)
    monkeypatch.undo()
    assert (folder / "journal.jsonl").read_bytes() == before
    pay(folder, records(), round=2)
    assert spent(folder, records()) == pytest.approx(cost(ROUND, ROUND), rel=1e-9)


# --- never taken for empty ----------------------------------------------------------------------------------------


def lines(folder):
    return (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)


def without_last(folder):
    (folder / "journal.jsonl").write_bytes(b"".join(lines(folder)[:-1]))


def cut_in_last(folder):
    path = folder / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-9])


def cheaper(folder):
    path = folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"gaussian":1.0', b'"gaussian":9.0'))


def swapped(folder):
    a, b, *rest = lines(folder)
    (folder / "journal.jsonl").write_bytes(b"".join([a, *reversed([b, *rest])]))


def emptied(folder):
    (folder / "journal.jsonl").write_bytes(b"")


def noise(folder):
    (folder / "journal.jsonl").write_bytes(os.urandom(2000))


def gone(name):
    def remove(folder):
        for path in folder.glob(name):
            path.unlink()

    remove.__name__ = f"without_{name[:4]}"
    return remove


def new_secret(folder):
    (folder / "secret").write_bytes(os.urandom(32))


def opened_secret(folder):
    (folder / "secret").chmod(0o644)


def forgotten_records(folder):
    (path,) = (folder / "records").iterdir()
    path.write_bytes(path.read_bytes()[16:])


DAMAGE = [
    without_last, cut_in_last, cheaper, swapped, emptied, noise, gone("journal.jsonl"), gone("head.json"),
    gone("secret"), gone("records/*"), new_secret, opened_secret, forgotten_records,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda d: d.__name__)
def test_a_damaged_ledger_refuses_to_go_on(folder, damage):
    pay(folder, records())
    pay(folder, records(), round=2)
    damage(folder)
    with pytest.raises(Refused) as caught:
        pay(folder, records(), round=3)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_becomes_of_the_journal_it_is_refused_or_says_what_it_said(paid, pick):
    """Bytes changed, cut out or put in anywhere: never less spent than was."""
    folder, whole, cost_before = paid
    data = bytearray(whole)
    at = pick.draw(st.integers(0, len(data) - 1))
    end = min(len(data), at + pick.draw(st.sampled_from([0, 1, 1, 7, 300, 10_000])))
    data[at:end] = pick.draw(st.one_of(st.binary(max_size=6), st.just(whole[at:end] * 2)))
    (folder / "journal.jsonl").write_bytes(data)
    try:
        found = spent(folder, records())
    except Refused as error:
        assert "\n" not in str(error)
    else:
        assert found >= cost_before * (1 - 1e-9)


@pytest.fixture(scope="module")
def paid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paid") / "ledger"
    for number in (1, 2, 3):
        pay(folder, records(), round=number)
    return folder, (folder / "journal.jsonl").read_bytes(), spent(folder, records())


def test_half_a_line_after_the_head_is_a_crash_in_mid_append(folder):
    """Nothing had followed from that line: it is dropped, and the next one takes its place."""
    pay(folder, records())
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"at":"2026-' + b"x" * 3000)
    assert spent(folder, records()) == pytest.approx(cost(ROUND), rel=1e-9)
    pay(folder, records(), round=2)
    assert spent(folder, records()) == pytest.approx(cost(ROUND, ROUND), rel=1e-9)


def test_a_crash_between_line_and_head_is_spent(folder, monkeypatch):
    pay(folder, records())
    real = journal.durable
    monkeypatch.setattr(journal, "durable", lambda path, data: None if path.name == "head.json" else real(path, data))
    pay(folder, records(), round=2)
    monkeypatch.undo()
    assert spent(folder, records()) == pytest.approx(cost(ROUND, ROUND), rel=1e-9)


def test_a_folder_restored_from_an_old_copy_is_told_by_its_witness(folder, tmp_path):
    witness = tmp_path / "elsewhere.json"

    def claim(number):
        with open_ledger(folder, witness=witness) as held:
            held.claim(STUDY, number, b"w", held.fingerprint(records()), ROUND, FREE)

    claim(1)
    old = {path: path.read_bytes() for path in folder.glob("*.json*")}
    claim(2)
    for path, data in old.items():
        path.write_bytes(data)
    with pytest.raises(Refused, match="cut or rolled back"):
        claim(3)
    pay(folder, records(), round=3)  # without a witness nothing tells: the how-to says so
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(Refused, match="records one"):
        claim(4)


def test_two_processes_do_not_share_a_ledger(folder):
    with (
        open_ledger(folder),
        pytest.raises(Refused, match="another process uses this ledger"),
        open_ledger(folder),
    ):
        pass
    with open_ledger(folder):
        pass


def test_a_ledger_of_another_version_is_refused(folder, monkeypatch):
    monkeypatch.setattr(ledger, "_VERSION", 2)
    pay(folder, records())
    monkeypatch.undo()
    with pytest.raises(Refused, match="ledger has version 2"):
        pay(folder, records(), round=2)


def test_lines_are_plain_json_that_an_auditor_can_read(folder):
    pay(folder, records())
    first, second = (json.loads(line) for line in lines(folder))
    assert first["ledger"] == 1 and second["charges"] == [{"count": 10, "inner": {"poisson": 0.1, "inner": {
        "gaussian": 1.0}}}] and second["n"] == 40  # fmt: skip
