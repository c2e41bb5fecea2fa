"""A column that is the label under another name is noted, and one that only goes with it is not."""

import pytest
import torch

from consilium.core.inputs import Column, Inputs
from consilium.data.checks.label_copies import check_label_copies
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.single_label import SingleLabel

N = 60
Y = torch.arange(N) % 3


def notes(toy, parts, y=Y, task=None):
    columns = tuple(
        Column(f"c{k}", words=tuple("abcdef"[: part.shape[1]]) if part.shape[1] > 1 else ())
        for k, part in enumerate(parts)
    )
    dataset = toy(torch.cat(parts, 1), y.tolist(), inputs=Inputs(columns))
    return list(check_label_copies(dataset, task or SingleLabel()))


def test_a_copy_in_numbers_or_words_is_noted(toy):
    noise = torch.rand(N, 1, generator=torch.Generator().manual_seed(0))
    number = (Y[:, None] * 2 % 3) / 2
    word = torch.eye(3)[Y]
    said = notes(toy, [noise, number, word])
    assert [one.split()[1] for one in said] == ["'c1'", "'c2'"]
    assert said[0] == (
        "column 'c1' has one value for each class, and tells the label of every record: if it was written down after "
        'the label, drop = ["c1"]'
    )


@pytest.mark.parametrize("record", [0, N - 1])
def test_one_record_that_differs_makes_it_no_copy(toy, record):
    number = Y[:, None] / 2
    number[record] = 0.5 if number[record] != 0.5 else 0.0
    assert notes(toy, [number]) == []


def test_what_is_finer_or_coarser_than_the_label_is_no_copy(toy):
    assert notes(toy, [torch.arange(N)[:, None] / N, (Y > 0).float()[:, None], torch.zeros(N, 1)]) == []
    assert notes(toy, [Y[:12, None] / 2], Y[:12]) == []
    assert notes(toy, [Y[:, None] / 2], task=MultiLabel()) == []


def test_a_pixel_or_a_feature_without_a_name_is_counted(toy):
    pixels = torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert list(check_label_copies(toy(pixels, Y.tolist()), SingleLabel())) == []
    pixels[:, 0, 1, 2] = Y / 2
    for x in (pixels, pixels.flatten(1)):
        (said,) = check_label_copies(toy(x, Y.tolist()), SingleLabel())
        assert said.startswith("1 of 16 values of an input, such as number 6, have one value for each class")
