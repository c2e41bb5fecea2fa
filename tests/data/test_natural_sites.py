"""Natural sites that disagree on what an answer is called, or on its unit, and records that move between them."""

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.random import Stream
from consilium.data.columns.listed_findings import listed_findings
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.iid import IID
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel
from consilium.learn.tasks.survival import Survival

N = 120
SHARES = {"public": 0.0, "validation": 0.1, "test": 0.2, "non_members": 0.2}
SITES = {"keys": np.arange(N) % 2, "key_names": ("north", "south")}
NORTH = SITES["keys"] == 0
CLASSES = ("well", "ill", "0", "1")
UNDECLARED = Inputs(classes_declared=False)


def divided(source, task=None, partition=None, sites=2, **knobs):
    parts = {**SHARES, **knobs}
    return gather(source, partition or ByKey(), task or SingleLabel(), sites=sites, stream=Stream(0), **parts)


def two_words():
    """0 and 1 at north, 2 and 3 at south."""
    return np.arange(N) // 2 % 2 + np.where(NORTH, 0, 2)


@pytest.mark.parametrize("partition", [ByKey(), IID()])
def test_sites_that_share_no_class_are_refused_by_their_names_and_classes(held, partition):
    source = held(y=two_words(), classes=CLASSES, inputs=UNDECLARED, **SITES)
    with pytest.raises(Refused, match=r"site 'north' has the classes 'well', 'ill', .* but '0', '1'"):
        divided(source, partition=partition)


def test_one_site_of_three_that_shares_no_class_is_refused(held):
    keys = np.arange(N) % 3
    y = np.arange(N) // 3 % 2 + np.where(keys == 2, 2, 0)
    names = ("east", "north", "south")
    with pytest.raises(Refused, match=r"site 'south' has the classes '0', '1'"):
        divided(held(y=y, classes=CLASSES, inputs=UNDECLARED, keys=keys, key_names=names), sites=3)


def test_a_site_of_one_class_of_its_own_is_a_caution(held):
    """A ward of healthy people is one; and so is a site that writes the one word that it knows in its own way."""
    y = np.where(NORTH, 2, np.arange(N) // 2 % 2)
    cautions = divided(held(y=y, classes=CLASSES, inputs=UNDECLARED, **SITES)).cautions
    assert sum("and the other sites none of them" in caution for caution in cautions) == 2  # each side's
    common = divided(held(y=np.arange(N) // 2 % 2, classes=CLASSES, inputs=UNDECLARED, **SITES)).cautions
    assert not any("vocabulary" in caution for caution in common)


def test_declared_classes_and_a_class_in_common_are_lawful(held):
    assert divided(held(y=two_words(), classes=CLASSES, inputs=Inputs(classes_declared=True), **SITES)).sites
    common = two_words()
    common[0] = 2
    assert divided(held(y=common, classes=CLASSES, inputs=UNDECLARED, **SITES)).sites


TASKS = {
    "regression": Regression(low=0, high=300, tolerance=5),
    "survival": Survival(cuts=(5, 10, 20), horizon=10),
}


def answers(kind, factor):
    draws = np.random.default_rng(0)
    y = draws.normal(130, 15, (N, 1)) if kind == "regression" else draws.exponential(8, (N, 1)) + 0.01
    y[~NORTH] *= factor
    if kind == "survival":
        y = np.concatenate([y, np.ones((N, 1))], 1)
    return torch.tensor(y, dtype=torch.float32)


@pytest.fixture
def answered(held, monkeypatch):
    """Sites of answers of a ``kind``, at south by ``factor``, divided."""
    monkeypatch.setattr(type(held()), "load_for", lambda source, task: source.dataset)
    return lambda kind, factor: divided(source_of(held, kind, factor), TASKS[kind])


def source_of(held, kind, factor):
    source = held(y=np.zeros(N, dtype=int), classes=("bp",) if kind == "regression" else ("time", "event"), **SITES)
    records = source.dataset.records
    x = torch.rand(N, 2, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(N)
    object.__setattr__(source.dataset, "records", type(records)(x, answers(kind, factor), ids, ids))
    return source


@pytest.mark.parametrize(
    ("kind", "factor", "name"), [("regression", 0.133, "the target 'bp'"), ("survival", 30, "the time")]
)
def test_an_answer_in_another_unit_at_one_site_is_a_caution(answered, kind, factor, name):
    data = answered(kind, factor)
    (note,) = data.cautions
    assert name in note and note.endswith("are they in one unit?") and note in data.notes
    assert not answered(kind, 1).cautions and not answered(kind, 1.2).cautions


def test_records_that_move_with_their_patient_are_counted_by_way(held):
    patient, place = np.arange(N) // 4, np.arange(N) % 4
    home = patient % 2
    keys = np.where(place == 3, 1 - home, home)  # three of four at home
    source = held(y=patient // 2 % 2, units=patient, keys=keys, key_names=("north", "south"))
    data = divided(source, shared_patients=True)
    (note,) = [note for note in data.cautions if "move to" in note]
    pool = {
        name: sum(len(p) for p in (s.records.train, s.records.validation, s.records.non_members)) // 4
        for name, s in zip(("north", "south"), data.sites, strict=True)
    }
    assert note.startswith(f"{sum(pool.values())} of {4 * sum(pool.values())} records")
    assert f"{pool['south']} from 'north' to 'south', {pool['north']} from 'south' to 'north'" in note
    alone = divided(held(y=np.arange(N) // 2 % 2, **SITES))
    assert not any("move to" in note for note in alone.notes)


@pytest.mark.parametrize("cell", ["No Finding|Effusion", "Effusion | No Finding"])
def test_a_finding_beside_a_word_for_none_is_refused_by_its_row(cell):
    with pytest.raises(Refused, match=r"row 7, holds 'No Finding' beside 'Effusion', which contradict"):
        listed_findings(["Effusion", cell], [6, 7], "report", ["Effusion"], ["No Finding", "Nodule"], "|")
    y = listed_findings(
        ["Effusion|Nodule", "No Finding"], [6, 7], "report", ["Effusion"], ["No Finding", "Nodule"], "|"
    )
    assert y.tolist() == [[1], [0]]
