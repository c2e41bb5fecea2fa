"""Row numbers and ids among the features: refused by name, or noted where only their order speaks."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
N = 40
RNG = np.random.default_rng(0)
AGE = RNG.uniform(20, 90, N).round(1)
SHUFFLED = RNG.permutation(np.arange(1000, 1000 + N))


@pytest.fixture
def table(tmp_path):
    def of(name, values, **knobs):
        rows = [f"{v},{age},{'no' if i < N / 2 else 'yes'}" for i, (v, age) in enumerate(zip(values, AGE, strict=True))]
        (tmp_path / "x.csv").write_text("\n".join([f"{name},age,y", *rows]) + "\n")
        return Table(str(tmp_path / "x.csv"), "y", **knobs)

    return of


@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "__index_level_0__", "level_0"])
def test_an_index_that_pandas_stored_is_refused_whatever_it_holds(table, name):
    with pytest.raises(Refused, match="is an index that was stored with the table") as refused:
        table(name, [1, 2] * (N // 2)).load()
    assert f'drop = ["{name}"]' in refused.value.remedy
    assert table(name, range(N), drop=(name,)).load().records.x.shape == (N, 1)
    assert table(name, range(N), patient=name).load().names_units


@pytest.mark.parametrize("name", ["id", "ID", "patient_id", "PatientID", "record", "case no", "MRN", "row", "index"])
@pytest.mark.parametrize("values", [range(N), SHUFFLED])
def test_ids_by_name_are_refused_in_any_order(table, name, values):
    with pytest.raises(Refused, match="has a different whole number in each of the 40 rows"):
        table(name, values).load()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("visit_no", [i // 2 for i in range(N)]),
        ("ward_id", [i % 5 for i in range(N)]),
        ("persons", [i % 5 for i in range(N)]),
        ("subject_age", AGE),
        ("platelet_no", SHUFFLED),
        ("fluid", SHUFFLED),
        ("period", SHUFFLED),
        ("bmi_index", SHUFFLED),
    ],
)
def test_measurements_are_read_without_a_word(table, name, values):
    assert table(name, values).load().cautions == ()


PEOPLE = [
    "id",
    "patient_id",
    "PatientID",
    "mrn",
    "pid",
    "subject",
    "Patient",
    "case no",
    "name",
    "Last Name",
    "subject_key",
]


@pytest.mark.parametrize(
    "name", [*PEOPLE, "patientid", "study_id", "Medical Record Number", "pat_nr", "patient initials no"]
)
@pytest.mark.parametrize("values", [[f"P{i // 4}" for i in range(N)], [1000 + i // 4 for i in range(N)], AGE])
def test_names_of_people_are_refused_as_features_text_or_number_once_or_often(table, name, values):
    """Four visits each: a feature that says whose they are tells the label of those in test by those in training."""
    with pytest.raises(Refused, match="tells by its name whose each record is") as refused:
        table(name, values).load()
    assert f'patient = "{name}"' in refused.value.remedy and f'drop = ["{name}"]' in refused.value.remedy
    assert table(name, values, drop=(name,)).load().records.x.shape == (N, 1)


def test_people_under_a_name_of_their_own_are_refused_beside_the_patient_column(table, tmp_path):
    source = table("patient_id", [f"P{i // 4}" for i in range(N)], patient="patient_id")
    assert len(source.load().records.units.unique()) == N // 4
    (tmp_path / "x.csv").write_text((tmp_path / "x.csv").read_text().replace("age", "surname"))
    with pytest.raises(Refused, match="'surname' tells by its name") as refused:
        source.load()
    assert "keeps each person" not in refused.value.remedy


@pytest.mark.parametrize(
    "name", ["drug_name", "hospital_name", "device_id", "site id", "patients_per_day", "case", "subjective"]
)
def test_names_of_things_are_read(table, name):
    assert table(name, ["a", "b"] * (N // 2)).load().records.x.shape == (N, 3)


def test_a_column_of_arrays_that_names_people_is_refused(tmp_path):
    x = np.stack([AGE / 100, (np.arange(N) // 4) / N], 1).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(N) % 2, columns=np.array(["age", "patient_id"]))
    with pytest.raises(Refused, match="column 'patient_id' tells by its name"):
        NPZ(str(tmp_path / "x.npz")).load()


@pytest.mark.parametrize("values", [range(100, 100 + N), range(N, 0, -1), [7 * i + i % 3 for i in range(N)]])
def test_whole_numbers_that_run_with_the_file_are_noted(table, values):
    (note,) = table("leuko", values).load().cautions
    assert "column 'leuko'" in note and "run with the file's order" in note
    assert table("leuko", values, drop=("leuko",)).load().cautions == ()


def test_a_word_of_its_own_for_each_row_is_refused(table):
    with pytest.raises(Refused, match="40 different words: it looks like an identifier"):
        table("code", [f"A{i}x" for i in range(N)]).load()


def test_a_feature_of_arrays_that_numbers_the_records_is_noted(tmp_path):
    x = np.stack([AGE / 100, np.arange(N) / N], 1).astype(np.float32)
    y = np.arange(N) % 2
    np.savez(tmp_path / "x.npz", x=x, y=y)
    (note,) = NPZ(str(tmp_path / "x.npz")).load().cautions
    assert note.startswith("feature 1 rises by the same step")
    parts = {"train_images": x[:20], "train_labels": y[:20], "test_images": x[20:], "test_labels": y[20:]}
    np.savez(tmp_path / "x.npz", **parts, columns=np.array(["age", "row"]))
    (note,) = NPZ(str(tmp_path / "x.npz")).load().cautions
    assert note.startswith("feature 'row' rises")
    np.savez(tmp_path / "x.npz", x=np.stack([AGE / 100, np.sort(AGE) / 100], 1).astype(np.float32), y=y)
    assert NPZ(str(tmp_path / "x.npz")).load().cautions == ()


@pytest.mark.parametrize("values", [20230120 + np.arange(10), 202310 + np.array([0, 1, 2, 91, 92, 93, 94, 95])])
def test_dates_that_are_written_as_numbers_are_noted(table, values):
    values = RNG.permutation(np.resize(values, N))
    (note,) = table("seen", values).load().cautions
    assert "column 'seen' holds whole numbers that can all be read as dates" in note
    assert not table("seen", values + 60).load().cautions  # no days and no months
