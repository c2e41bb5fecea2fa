"""What a site keeps of a study: two rounds, the answers to them, and that there were more."""

from pathlib import Path

import pytest
import torch

from consilium.core.algorithm import AlgorithmState
from consilium.core.errors import Failed
from consilium.deploy.site.site_store import SiteStore
from consilium.federate.client.participant import SiteState


def state(number):
    return SiteState(AlgorithmState({"control": torch.tensor([float(number)])}))


@pytest.fixture
def store(tmp_path):
    made = SiteStore(tmp_path / "study")
    for number in (1, 2, 3, 4):
        made.keep(number, b"question %d" % number, b"answer %d" % number, state(number))
    return made


def test_the_newest_two_rounds_are_kept_and_answered_again(store):
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "3.safetensors", "4.safetensors", "answer-3.bin", "answer-4.bin", "older",
    ]  # fmt: skip
    assert store.answer(4, b"question 4") == b"answer 4" and store.answer(4, b"another") is None
    assert [float(store.state(n).algorithm.tensors["control"]) for n in (4, 5, 9)] == [3.0, 4.0, 4.0]


def test_a_server_that_goes_back_further_is_not_given_a_beginners_state(store):
    with pytest.raises(Failed, match="before round 3 is not stored any more"):
        store.state(3)
    assert not store.state(1).algorithm.tensors, "the first round is everybody's beginning"


def test_one_that_was_absent_so_far_begins_afresh(tmp_path):
    made = SiteStore(tmp_path / "study")
    assert not made.state(7).algorithm.tensors
    made.keep(7, b"q", b"a", state(7))
    assert not made.state(7).algorithm.tensors and float(made.state(8).algorithm.tensors["control"]) == 7.0


def test_a_server_that_begins_anew_finds_no_state_of_the_course_it_left(store):
    store.keep(1, b"anew", b"answer", state(10))
    assert float(store.state(2).algorithm.tensors["control"]) == 10.0
    store.keep(2, b"anew", b"answer", state(20))
    assert [float(store.state(n).algorithm.tensors["control"]) for n in (2, 3, 5)] == [10.0, 20.0, 20.0]


def test_without_room_for_the_answer_there_is_no_state_of_the_round(store, monkeypatch):
    monkeypatch.setattr("consilium.core.files.os.fsync", full)
    with pytest.raises(Failed, match=r"No space left on device.* Free disk space"):
        store.keep(5, b"question 5", b"answer 5", state(5))
    assert float(store.state(6).algorithm.tensors["control"]) == 4.0
    assert store.answer(5, b"question 5") is None


def full(handle):
    if ".bin" in Path(f"/proc/self/fd/{handle}").readlink().name:
        raise OSError(28, "No space left on device")


def test_an_answer_or_a_state_that_was_changed_is_refused_by_name(store, tmp_path):
    answer, kept = store.folder / "answer-4.bin", store.folder / "4.safetensors"
    for path, use in ((answer, lambda: store.answer(4, b"question 4")), (kept, lambda: store.state(5))):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(Failed, match=rf"{path.name} was changed after it was written.*Restore it from a backup"):
            use()
        path.write_bytes(whole)
        use()
    other = SiteStore(tmp_path / "another")
    (other.folder / "4.safetensors").write_bytes(kept.read_bytes())
    with pytest.raises(Failed, match="is of study 'study', not of 'another'"):
        other.state(5)
    (store.folder / "4.safetensors").write_bytes((store.folder / "3.safetensors").read_bytes())
    with pytest.raises(Failed, match="is of round 3, not of 4"):
        store.state(5)
