"""People and sites by name: numbers given per site, and spellings of one name, are counted or refused, never merged."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.iid import IID
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table
from consilium.learn.tasks.single_label import SingleLabel

SITES = ("east", "north", "south")
SHARES = {"public": 0.0, "validation": 0.1, "test": 0.2, "non_members": 0.2}


def divided(source, partition=None, sites=3, **knobs):
    return gather(source, partition or ByKey(), SingleLabel(), sites=sites, stream=Stream(0), **{**SHARES, **knobs})


def people(consortium):
    pools = [consortium.test, consortium.public]
    for site in consortium.sites:
        pools += [site.records.train, site.records.validation, site.records.non_members]
    return sum(pool.unit_count() for pool in pools)


@pytest.fixture
def stored(tmp_path):
    """The same people as a table or as arrays."""

    def write(form, sites, patients):
        n = len(sites)
        x, y = np.linspace(0, 1, n), np.arange(n) // 3 % 2
        if form == "npz":
            path = tmp_path / "mine.npz"
            np.savez(path, x=x[:, None], y=y, units=np.array(patients), keys=np.array(sites))
            return NPZ(str(path))
        pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
        path = tmp_path / "mine.csv"
        rows = [f"{s},{p},{v},{label}" for s, p, v, label in zip(sites, patients, x, y, strict=True)]
        path.write_text("\n".join(["site,patient,x,y", *rows]) + "\n", encoding="utf-8")
        return Table(str(path), "y", site="site", patient="patient")

    return write


PER_SITE = [site for site in SITES for _ in range(60)], [str(k // 2) for _ in SITES for k in range(60)]


@pytest.mark.parametrize("form", ["csv", "npz"])
@pytest.mark.parametrize("partition", [ByKey(), IID()])
def test_patients_that_each_hospital_numbers_are_not_one_person(stored, form, partition):
    with pytest.raises(Refused) as refused:
        divided(stored(form, *PER_SITE), partition)
    assert refused.value.reason.startswith(
        "30 of the 30 patients of site 'east' are at other sites too, such as '0' at "
    )
    assert "east-0" in refused.value.remedy and "shared-patients = true" in refused.value.remedy


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_unique_ids_are_ninety_people(stored, form):
    sites, patients = PER_SITE
    made = divided(stored(form, sites, [f"{s}-{p}" for s, p in zip(sites, patients, strict=True)]))
    assert people(made) == 90 and not [note for note in made.notes if "more than one site" in note]


def test_ids_of_one_list_over_all_sites_are_allowed_where_that_is_said(stored):
    made = divided(stored("npz", *PER_SITE), IID(), shared_patients=True)
    (note,) = (note for note in made.notes if "more than one site" in note)
    assert people(made) == 30 and note.startswith("30 of 30 patients, such as that of record 0, have records at more")


def test_a_small_hospital_beside_a_large_one_is_enough(stored):
    sites = ["large"] * 200 + ["small"] * 10
    with pytest.raises(
        Refused, match="10 of the 10 patients of site 'small' are at other sites too, such as '0' at 'l"
    ):
        divided(stored("npz", sites, [*map(str, range(200)), *map(str, range(10))]), sites=2)


def test_a_few_who_moved_are_counted_and_not_named(stored):
    sites, patients = PER_SITE
    patients = [f"{s}-{p}" for s, p in zip(sites, patients, strict=True)]
    sites = [*sites, "south", "south"]
    made = divided(stored("npz", sites, [*patients, "east-0", "east-1"]))
    (note,) = (note for note in made.notes if "more than one site" in note)
    assert note.startswith("2 of 90 patients, such as that of record 0, have records") and "'east-0'" not in note
    assert "different people" in note


def test_a_natural_site_that_ends_up_with_nobody_is_refused_by_name(stored):
    """Every patient has as many records at the first site: the message said that the data come from one."""
    sites, patients = ["a", "b"] * 60, [str(k // 2) for k in range(120)]
    for asked in (1, 2):
        with pytest.raises(Refused, match="no patient is left at site 'b': each has as many"):
            divided(stored("npz", sites, patients), sites=asked, shared_patients=True)


@pytest.mark.parametrize("form", ["csv", "npz"])
@pytest.mark.parametrize(
    "one, other", [("North", "north"), ("St Mary", "St  Mary"), ("Ma\u0308rz", "MÄRZ"), ("no\u200brth", "north")]
)
def test_a_hospital_in_two_spellings_is_refused_by_both(stored, form, one, other):
    sites, patients = [one] * 40 + [other] * 40, [str(k) for k in range(80)]
    with pytest.raises(Refused, match="differ in capitals, blanks or Unicode only") as refused:
        divided(stored(form, sites, patients), IID())
    assert refused.value.where == "site"


@pytest.mark.parametrize("form", ["csv", "npz"])
@pytest.mark.parametrize("one, other", [("P7", "p7"), ("07", "7"), ("7", "7.0"), ("P007", "P7"), ("P\u00a0 7", "p 7")])
def test_people_in_two_spellings_are_counted_as_two_and_said_so(stored, form, one, other):
    patients = [*(f"x{k}y" for k in range(78)), one, other]
    made = divided(stored(form, ["a"] * 80, patients), IID())
    (note,) = (note for note in made.notes if "count as two" in note)
    assert note.startswith("two patients have names") and "78" in note and "79" in note
    assert people(made) == 80


def test_names_that_are_different_are_not_said_to_be_alike(stored):
    patients = [*(f"{k}" for k in range(70)), "1.01", "1.1", "P10", "P1", "100.5", "1-0", "P-1", "0.1", "0.01", "a b"]
    made = divided(stored("csv", ["site 1 1"] * 40 + ["site 11"] * 40, patients), sites=2)
    assert not [note for note in made.notes if "count as two" in note]


def test_sites_with_and_without_a_leading_zero_are_noted(stored):
    made = divided(stored("csv", ["1"] * 40 + ["01"] * 40, [f"x{k}y" for k in range(80)]), sites=2)
    assert [note for note in made.notes if note.startswith("two sites have names")]


def test_sites_that_a_partition_mixes_are_noted(stored):
    sites, patients = PER_SITE
    source = stored("csv", sites, [f"{s}-{p}" for s, p in zip(sites, patients, strict=True)])
    assert "the data come from 3 sites (east, north, south), which partition iid mixes" in divided(source, IID()).notes
    assert not [note for note in divided(source).notes if "mixes" in note]


def test_names_of_pictures_are_looked_at_too(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    from consilium.data.sources.image_folder import ImageFolder

    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for k in range(12):
            name = ("P7" if label == "a" else "p7") if k == 0 else f"x{label}{k}"
            Image.new("L", (2, 2), 10 * k + (label == "b")).save(tmp_path / label / f"{name}_0.png")
    made = divided(ImageFolder(str(tmp_path), size=2, channels=1, units=r"^(\w+)_"), IID(), sites=2)
    assert [note for note in made.notes if note.startswith("two patients have names")]


@pytest.mark.parametrize("form", ["npz", "csv"])
@pytest.mark.parametrize("kind", ["patient", "site"])
def test_names_in_which_a_letter_was_lost_are_refused_without_printing_a_patient(stored, form, kind):
    patients = [f"p{k // 2}" for k in range(60)]
    sites = [SITES[k // 2 % 3] for k in range(60)]
    if kind == "patient":
        patients[4] = patients[5] = "M\ufffdller"
    else:
        sites = [site.replace("o", "\ufffd") for site in sites]
    said = rf"the name of the {kind} of record [24], one of [12] such, holds U\+FFFD"
    with pytest.raises(Refused, match=said) as refused:
        divided(stored(form, sites, patients))
    assert "ller" not in str(refused.value)
