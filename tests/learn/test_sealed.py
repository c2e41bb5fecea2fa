"""Sealed states: every byte that is changed is refused or means the same, and so is a file of something else."""

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from consilium.core.errors import Failed
from consilium.core.sealed_tensors import read_sealed, write_sealed

TENSORS = {
    "weights": torch.linspace(-1, 1, 12).reshape(3, 4),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "mask": torch.tensor([True, False, True]),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}
ABOUT = {"training": "9f3c", "round": 12, "ledger": [{"gaussian": 1.0}]}


@pytest.fixture
def path(tmp_path):
    write_sealed(tmp_path / "state.safetensors", TENSORS, ABOUT)
    return tmp_path / "state.safetensors"


def read(path, **expected):
    return read_sealed(path, "state", "delete it", expected)


def test_what_is_written_is_read(path):
    tensors, about = read(path, training="9f3c", round=12)
    assert about == ABOUT and set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    first = path.read_bytes()
    write_sealed(path, dict(reversed(TENSORS.items())), ABOUT)
    assert path.read_bytes() == first


def test_no_byte_can_be_changed_unnoticed(path):
    whole = path.read_bytes()
    passed = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            tensors, about = read(path)
        except Failed as error:
            assert str(path) in str(error) and "Delete it" in str(error) and "\n" not in str(error)
        else:  # a space of the header: nothing that is read has changed
            assert about == ABOUT and all(torch.equal(tensors[n], t) for n, t in TENSORS.items())
            passed += 1
    assert passed <= 8


@pytest.mark.parametrize("other", [{"training": "77ab"}, {"round": 11}, {"site": "site-1"}])
def test_a_file_of_something_else_is_refused(path, other):
    with pytest.raises(Failed, match=f"is of {next(iter(other))}"):
        read(path, **other)


def test_a_change_of_what_is_said_is_noticed(path):
    tensors, _ = read(path)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
    save_file(tensors, path, {"about": json.dumps({**about, "round": 11})})
    with pytest.raises(Failed, match="was changed after it was written: its seal does not hold"):
        read(path)


def test_a_file_from_before_there_were_seals_is_read_and_said_to_be_one(tmp_path, caplog):
    save_file(TENSORS, tmp_path / "old.safetensors", {"about": json.dumps(ABOUT)})
    with caplog.at_level(logging.WARNING, "consilium.seal"):
        tensors, about = read(tmp_path / "old.safetensors", training="another, which an old file does not name")
        read(tmp_path / "old.safetensors")
    assert about == ABOUT and torch.equal(tensors["weights"], TENSORS["weights"])
    assert caplog.text.count("is not sealed") == 1


@pytest.mark.parametrize("about", ["[]", "{", "[" * 100_000])
def test_metadata_that_are_no_table_are_unreadable(tmp_path, about):
    save_file(TENSORS, tmp_path / "odd.safetensors", {"about": about})
    with pytest.raises(Failed, match="is not readable"):
        read(tmp_path / "odd.safetensors")
