"""Each breach is one refusal that says what, where and the remedy."""

import dataclasses

import pytest
import torch

from consilium.core.errors import Refused
from consilium.data.checks.verify import check_inputs, check_labels, verified
from consilium.learn.tasks.single_label import SingleLabel

NAN, INF = float("nan"), float("inf")


def refused(call):
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.remedy or caught.value.where
    return str(caught.value)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        ([[0.1], [NAN]], "file[x]: record 1 has NaN or infinite values"),
        ([[-INF], [0.5], [NAN]], "file[x]: record 0 and 1 more have NaN or infinite values"),
        ([[0.5], [255.0]], "record 1 has values outside [0, 1] (they run from 0.5 to 255)"),
        ([[-0.5], [1.0]], "record 0 has values outside [0, 1] (they run from -0.5 to 1)"),
        ([], "there are no inputs"),
        ([[], []], "there are no inputs"),
    ],
)
def test_inputs_that_cannot_be_used(x, said):
    assert said in refused(lambda: check_inputs(torch.tensor(x), "file[x]"))


def test_inputs_at_both_ends_are_fine():
    check_inputs(torch.tensor([[0.0, 1.0]]), "x")


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_out_of_range(label):
    said = refused(lambda: check_labels(torch.tensor([0, label, 1]), 2, "y"))
    assert f"y: record 1 has a label outside 0..1 (such as {label})" in said


def test_a_sound_data_set_passes(toy):
    dataset = toy(y=[0, 1, 0], split=[0, 1, 2], keys=[4, 5, 6])
    assert verified(dataset, SingleLabel()) is dataset


def test_what_a_source_got_wrong_is_refused(toy):
    sound = toy(y=[0, 1, 0])
    twice = dataclasses.replace(sound.records, ids=torch.tensor([0, 0, 1]))
    assert "every record has the label 'ill'" in refused(
        lambda: verified(toy(y=[1, 1], classes=("well", "ill")), SingleLabel())
    )
    assert "two records have the same id" in refused(
        lambda: verified(dataclasses.replace(sound, records=twice), SingleLabel())
    )
    assert "split has shape (2,), there are 3 records" in refused(
        lambda: verified(toy(y=[0, 1, 0], split=[0, 1]), SingleLabel())
    )
    assert "toy, split: record 0 has a label outside 0..2" in refused(
        lambda: verified(toy(y=[0, 1, 0], split=[3, 1, 0]), SingleLabel())
    )
