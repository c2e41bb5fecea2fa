"""Why nothing can be trained or judged on: one patient, patients on both sides, too few records; and what notes say."""

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.dataset import TEST, TRAIN, VALIDATION
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.iid import IID
from consilium.data.sources.image_folder import ImageFolder
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table
from consilium.learn.tasks.single_label import SingleLabel

SHARES = {"public": 0.1, "validation": 0.2, "test": 0.2, "non_members": 0.25}
RNG = np.random.default_rng(0)


def run(source, partition=None, *, sites=1, **shares):
    return gather(
        source, partition or IID(), SingleLabel(), sites=sites, stream=Stream(0, ("data",)), **{**SHARES, **shares}
    )


def refusal(source, *arguments, **knobs):
    with pytest.raises(Refused) as caught:
        run(source, *arguments, **knobs)
    assert "\n" not in str(caught.value) and "Hold out a share" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def arrays(tmp_path):
    def stored(n, classes=None, **more):
        more = {"y": np.arange(n) % 2, **more}
        np.savez(tmp_path / "mine.npz", x=RNG.random((n, 4), dtype=np.float32), **more)
        return NPZ(str(tmp_path / "mine.npz"), classes)

    return stored


def test_all_records_of_one_patient(arrays, tmp_path):
    said = refusal(arrays(40, units=np.zeros(40, dtype=int)))
    assert said.startswith("npz: all 40 records belong to one patient ('0'), so nothing can be held out. Give records")
    pillow = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    for label in "ab":
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(4):
            pixels = RNG.integers(0, 255, (6, 6), dtype=np.uint8)
            pillow.fromarray(pixels).save(tmp_path / "pictures" / label / f"p{i}.png")
    said = refusal(ImageFolder(str(tmp_path / "pictures"), size=6, units="(p)"))
    assert "all 8 records belong to one patient ('p')" in said


def test_one_patient_in_every_split(held):
    split = [TRAIN] * 20 + [TEST] * 20
    assert "all 40 records belong to one patient" in refusal(held(y=[0, 1] * 20, split=split, units=[3] * 40))


def test_training_patients_who_all_stand_in_test(held):
    split = [TRAIN] * 20 + [VALIDATION] * 10 + [TEST] * 20
    units = [*range(10), *range(10), *range(20, 30), *range(10), *range(10)]
    said = refusal(held(y=[0, 1] * 25, split=split, units=units))
    assert said == (
        "toy: the training pool is empty: each of its patients is in a higher split too (20 records), and remains "
        "there. Divide the patients again, each into one split."
    )


def test_a_class_or_a_site_lost_because_its_patients_stand_higher(held):
    y = [0, 1] * 10 + [2, 2] + [0, 1] * 10
    split, units = [TRAIN] * 22 + [TEST] * 20, [*range(20), 60, 60, *range(30, 49), 60]
    said = refusal(held(y=y, split=split, units=units, classes="abc"))
    assert "class 'c' is lost whole: each of its 2 is one of the records whose patient stands in a higher split" in said
    keys = [0] * 20 + [1] * 2 + [0] * 20
    said = refusal(held(y=[0, 1] * 21, split=split, units=units, keys=keys), ByKey())
    assert "site '1' is lost whole: each of its 2 is one of the records whose patient stands in a higher split" in said


def test_a_pool_of_one_class_because_the_others_patients_stand_higher(held):
    y = [0] * 20 + [1] * 10 + [0, 1] * 10
    split = [TRAIN] * 30 + [TEST] * 20
    units = [*range(20), *([99] * 10), 99, *range(30, 49)]
    said = refusal(held(y=y, split=split, units=units))
    assert "the training pool holds one class only ('0')" in said
    assert "(10 records were removed because their patient is in a higher split)" in said


@pytest.mark.parametrize("n", [2, 3])
def test_too_few_records(arrays, n):
    said = refusal(arrays(n))
    assert f"{n} records, 1 of another class, are too few to divide with test = 0.2. Give more of them" in said
    assert f"{n} records of {n} patients, 1 of another class, are too few" in refusal(arrays(n, units=np.arange(n)))


def test_a_share_too_small_for_two_classes(held):
    said = refusal(held(y=[0, 1] * 50), test=0.01)
    assert "100 records, 50 of another class, are too few to divide with test = 0.01" in said


UNNAMED = "the source names no patients: each record is its own unit"
ONE_EACH = "each patient has one record"


@pytest.mark.parametrize(
    ("units", "note"),
    [
        (None, UNNAMED),
        (np.arange(40), ONE_EACH),
        (np.arange(40)[::-1], ONE_EACH),
        (np.array([f"{i:03}" for i in range(40)]), ONE_EACH),
        (np.arange(40) // 2, None),
    ],
)
def test_patients_are_named_or_not_whatever_their_numbers(arrays, tmp_path, units, note):
    more = {} if units is None else {"units": units}
    sources = [arrays(40, **more)]
    rows = [f"{i}.5,{i % 2},{'' if units is None else units[i]}" for i in range(40)]
    (tmp_path / "mine.csv").write_text("\n".join(["v,y,who", *rows]))
    sources.append(
        Table(str(tmp_path / "mine.csv"), "y", **({"drop": ("who",)} if units is None else {"patient": "who"}))
    )
    for source in sources:
        notes = run(source).notes
        assert [one for one in notes if one in (UNNAMED, ONE_EACH)] == ([] if note is None else [note])


def test_a_declared_class_without_a_record_is_said(arrays, tmp_path):
    said = "no record at all, in training or in test, is of 'c'"
    assert any(note.startswith(said) for note in run(arrays(40, ("a", "b", "c"))).notes)
    (tmp_path / "mine.csv").write_text("\n".join(["v,y", *(f"{i}.5,{'ab'[i % 2]}" for i in range(40))]))
    table = Table(str(tmp_path / "mine.csv"), "y", categories=(("y", "a", "c", "b"),))
    consortium = run(table)
    assert any(note.startswith(said) for note in consortium.notes) and consortium.classes == ("a", "c", "b")
    assert not any("no record at all" in note for note in run(arrays(40, ("a", "b"))).notes)


@pytest.mark.parametrize("names", [("a", " a"), ("a", "a\u200b"), ("\u00e9", "e\u0301")])
def test_names_of_classes_that_look_the_same(names):
    for made in (lambda: NPZ("x", names), lambda: Table("x.csv", "y", categories=(("y", *names),))):
        with pytest.raises(Refused, match="are one name: they differ in nothing that can be seen"):
            made()


@pytest.mark.parametrize("name", ["", " ", "\u200b"])
def test_a_class_without_a_name(name):
    for made in (lambda: NPZ("x", (name, "b")), lambda: Table("x.csv", "y", categories=(("y", name, "b"),))):
        with pytest.raises(Refused, match="has no visible character"):
            made()


def test_an_empty_cell_may_be_a_category_of_a_feature(tmp_path):
    (tmp_path / "mine.csv").write_text("\n".join(["v,w,y", *(f"{i},{'a' * (i % 2)},{i % 3 % 2}" for i in range(40))]))
    table = Table(str(tmp_path / "mine.csv"), "y", categories=(("w", "", "a"),)).load()
    assert torch.equal(table.records.x[:4, 1:], torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 2))
