"""Labels from which nothing can be learned are refused, and constants of a task that hardly fit them are said."""

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.division.sites import gather
from consilium.data.partitions.iid import IID
from consilium.data.sources.npz import NPZ
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel
from consilium.learn.tasks.survival import Survival

N = 40
TIMES = Survival(cuts=(1.0, 2.0, 4.0, 8.0), horizon=4.0)
AGE = Regression(low=0.0, high=100.0, tolerance=0.1)
MASKS, NESTED = Masks(threshold=0.5), Masks(threshold=0.5, nested=True)
STEPS = torch.linspace(0, 1, N)
COIN = torch.arange(N) % 2


def refusal(task, y, labels):
    with pytest.raises(Refused) as caught:
        task.check_variety(y, labels, "mine.npz")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("mine.npz: ")
    return str(caught.value)


def times(low, high, event=COIN):
    return torch.stack([low + (high - low) * STEPS, event.float().expand(N)], 1)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (times(0.5, 8.0, torch.zeros(N)), "none of the 40 records has an event: there is nothing to foretell"),
        (times(2.5, 3.5), "all 40 times lie in one interval, 2 to 4, and are one to the task. Declare cuts among"),
        (times(0.1, 0.9), "all 40 times lie in one interval, 0 to 1"),
        (times(300, 3000), "all 40 times lie beyond the last cut, 8, and are one to the task"),
    ],
)  # fmt: skip
def test_times_without_an_event_or_in_one_interval(y, said):
    assert said in refusal(TIMES, y, ("time", "event"))


def test_times_that_hardly_differ_are_noted():
    y = times(300, 3000)
    y[0] = torch.tensor([0.5, 1.0])
    assert TIMES.check_variety(y, ("time", "event"), "") == (
        "39 of 40 times lie beyond the last cut, 8: are the cuts in another unit?",
    )
    late = times(4.5, 8.0)
    late[:20, 0] = 9.0
    assert TIMES.check_variety(late, ("time", "event"), "") == (
        "none of the 20 events is by the horizon 4: one answer is right for all",
    )
    assert TIMES.check_variety(times(0.5, 8.0), ("time", "event"), "") == ()


def test_a_range_that_is_far_wider_than_the_numbers():
    y = torch.stack([40 + 0.9 * STEPS, 90 * STEPS], 1)
    assert AGE.check_variety(y, ("dose", "age"), "") == (
        "'dose' reaches over 0.009 of the declared range 0 to 100 only: is it the range of another unit?",
    )
    assert AGE.check_variety(y[:, 1:], ("age",), "") == ()
    assert "'dose' is the same number in all of the 40 records" in refusal(
        AGE, y * torch.tensor([0, 1]), ("dose", "age")
    )


def test_a_tolerance_that_one_answer_meets_for_all():
    wide = Regression(low=0.0, high=100.0, tolerance=30.0)
    assert wide.check_variety(20 + 60 * STEPS[:, None], ("age",), "") == (
        "one answer is right for all records: no two labels are further apart than twice the tolerance of 30",
    )
    assert wide.check_variety(20 + 61 * STEPS[:, None], ("age",), "") == ()


def test_findings_that_all_records_have_or_none():
    y = torch.stack([COIN, torch.zeros(N), torch.ones(N)], 1).long()
    assert MultiLabel().check_variety(y, ("a", "b", "c"), "") == (
        "2 of 3 findings ('b', 'c') are in all of the 40 records, or in none",
    )
    assert "every finding is in all of the 40 records, or in none" in refusal(MultiLabel(), y[:, 1:], ("b", "c"))
    assert MultiLabel().check_variety(y[:, :1], ("a",), "") == ()


def test_masks_in_which_nothing_is_marked():
    y = torch.zeros(N, 6, 5).long()
    assert "all pixels of the 40 masks are alike" in refusal(MASKS, y, ("background", "organ"))
    assert "all pixels of the 40 masks are alike" in refusal(MASKS, y + 1, ("background", "organ"))
    for plane in (y, y + 1):
        assert "all pixels of the 40 masks are alike" in refusal(NESTED, plane[:, None], ("whole",))
    y[3, 2, 1] = 1
    assert MASKS.check_variety(y, ("background", "organ"), "") == ()
    assert MASKS.check_variety(y, ("background", "organ", "lesion"), "") == (
        "no pixel of any mask bears 'lesion': no figure speaks of it",
    )


@pytest.mark.parametrize(("values", "shown"), [((0, 255), "0, 255"), ((0, 128, 255), "0, 128, 255"), ((1, 2), "1, 2")])
def test_masks_of_0_and_255_are_refused_by_their_labels(values, shown):
    y = torch.tensor(values)[torch.arange(N * 30) % len(values)].reshape(N, 6, 5)
    with pytest.raises(Refused) as caught:
        MASKS.check_labels(y, MASKS.names(y), (1, 6, 5), "mine.npz")
    said = str(caught.value)
    assert f"mine.npz: the pixels of masks hold {shown}: as labels these would be 0 to {values[-1]}" in said
    assert f"Number the labels 0, 1, ... (numpy.searchsorted([{shown}], y)), or name all of them by classes" in said
    MASKS.check_labels(torch.searchsorted(torch.tensor(values), y), ("a", "b", "c"), (1, 6, 5), "mine.npz")


def test_classes_of_one_record_are_noted():
    y = torch.zeros(N).long()
    assert SingleLabel().check_variety(y, ("a", "b"), "") == ()
    y[3] = 1
    assert SingleLabel().check_variety(y, ("a", "b", "c"), "") == (
        "classes of one record alone, of 40: 'b'. Are these classes?",
    )


def test_findings_that_are_classes_or_the_same():
    kinds = torch.eye(3)[torch.arange(N) % 3].long()
    assert MultiLabel().check_variety(kinds, ("a", "b", "c"), "") == (
        'every record has exactly one finding: are they classes? (task = "single-label")',
    )
    assert MultiLabel().check_variety(torch.stack([COIN, 1 - kinds[:, 0], COIN], 1), ("a", "b", "c"), "") == (
        "findings 'a' and 'c' are the same in all of the 40 records",
    )


def test_the_sources_notes_speak_of_labels_where_there_are_some(tmp_path):
    path = str(tmp_path / "m.npz")
    x = np.random.default_rng(0).random((N, 3))
    np.savez(path, x=x, y=times(0.5, 8.0).numpy())
    assert NPZ(path).load_for(TIMES).notes == ()
    np.savez(path, x=x, y=STEPS.numpy() * 90)
    assert NPZ(path).load_for(AGE).notes == ()
    np.savez(path, x=x, y=COIN.numpy())
    assert "the list of classes was read from the labels" in NPZ(path).load().notes[0]


def test_they_reach_the_notes_of_a_study_with_findings_that_the_test_set_lacks(tmp_path):
    path = str(tmp_path / "m.npz")
    rng = np.random.default_rng(0)
    y = {part: rng.integers(0, 2, (N, 3)) for part in ("train", "test")}
    y["test"][:, 2] = 0
    arrays = {f"{part}_labels": of for part, of in y.items()}
    np.savez(path, **arrays, **{f"{part}_images": rng.random((N, 4)) for part in y})
    source = NPZ(path, classes=("effusion", "nodule", "fracture"))
    shares = {"public": 0.0, "validation": 0.1, "test": 0.2, "non_members": 0.1}
    consortium = gather(source, IID(), MultiLabel(), sites=2, stream=Stream(0), **shares)
    assert (
        "all test records have 'fracture', or none has: the macro figures are means of 2 of 3 findings"
        in consortium.notes
    )
    np.savez(path, x=rng.random((N, 4)), y=times(300, 3000).numpy())
    with pytest.raises(Refused, match="all 40 times lie beyond the last cut"):
        gather(NPZ(path), IID(), TIMES, sites=2, stream=Stream(0), **shares)
    np.savez(path, x=rng.random((N, 4)), y=(40 + 0.5 * STEPS).numpy())
    study = gather(NPZ(path), IID(), AGE, sites=2, stream=Stream(0), **shares)
    assert any("is it the range of another unit?" in caution for caution in study.cautions)


def test_constants_that_float32_cannot_part_are_refused_with_its_step():
    with pytest.raises(Refused, match=r"high: 20240131\.0 is out of range.*in steps of 2\.4") as refused:
        Regression(low=20240101.0, high=20240131.0, tolerance=2.0)  # dates: labels would move by a day
    assert "subtract a constant from the labels" in refused.value.remedy
    with pytest.raises(Refused, match=r"cuts: .*in steps of 2\.4"):
        Survival(cuts=(20240101.0, 20240131.0), horizon=20240131.0)
    Regression(low=1000.0, high=1001.0, tolerance=0.1)
    Survival(cuts=(365.25, 366.25, 3652.5), horizon=366.25)
