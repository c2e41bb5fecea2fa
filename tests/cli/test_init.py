"""``consilium init``: the study that it writes plans at once, or is refused with exactly the lines to be filled in."""

import csv
import gzip
import random
import re
import tomllib

import numpy as np
import pytest

from consilium import Study
from consilium.cli.new_study import write_study
from consilium.core.errors import Refused
from consilium.study.spec.parse import read
from consilium.study.spec.placeholders import HIGH, LOW, WORD, open_lines

SECRETS = ("61.73", "smoker-word", "patient-77", "ill-word", "ward-of-roses")
"""Values of records: in no study, whatever the column."""


@pytest.fixture
def clinics(tmp_path, monkeypatch):
    """A table with secrets in every kind of column."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    with (tmp_path / "clinics.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["age", "smoker", "record_id", "patient", "hospital", "bmi", "outcome"])
        for i in range(240):
            ill = draw.random() < 0.5
            age = 61.73 if i == 7 else round(draw.uniform(20, 90) + 5 * ill, 2)
            rows.writerow(
                [age, draw.choice(["smoker-word", "no"]), i, f"patient-{i}", draw.choice(["ward-of-roses", "south"]),
                 "" if i == 3 else round(draw.uniform(17, 40), 1), "ill-word" if ill else "well"]
            )  # fmt: skip
    return tmp_path / "clinics.csv"


def filled(text):
    """What a user writes in."""
    text = text.replace(f'["age", "{LOW}", "{HIGH}"]', '["age", 0, 110]').replace(
        f'["bmi", "{LOW}", "{HIGH}"]', '["bmi", 10, 80]'
    )
    text = text.replace(f'["smoker", "{WORD}", "{WORD}"]', '["smoker", "smoker-word", "no"]')
    return text.replace(f'["outcome", "{WORD}", "{WORD}"]', '["outcome", "well", "ill-word"]')


def test_several_records_of_a_patient_have_a_claim_per_patient(clinics, tmp_path):
    text = clinics.read_text().splitlines()
    again = [
        re.sub(r"patient-\d+,[a-z-]+,", f"patient-{i // 3},{('south', 'ward-of-roses')[i // 3 % 2]},", line)
        for i, line in enumerate(text[1:])
    ]
    clinics.write_text("\n".join([text[0], *again]))
    path = write_study(clinics)
    assert tomllib.loads(path.read_text())["vary"]["privacy"][0]["unit"] == "patient"
    path.write_text(filled(path.read_text()))
    claims = [claim for some in Study.read(path).plan().claims.values() for claim in some]
    assert claims and {claim.unit for claim in claims} == {"patient"}
    x, y = np.zeros((6, 2)), np.array([0, 1] * 3)
    for units, said in ((np.arange(6) // 2, True), (np.arange(6), False)):
        np.savez(tmp_path / "mine.npz", x=x, y=y, units=units)
        assert ('unit = "patient"' in write_study(tmp_path / "mine.npz", tmp_path / f"{said}.toml").read_text()) == said


def test_a_table_gives_names_and_no_values(clinics):
    text = write_study(clinics).read_text()
    assert not [secret for secret in SECRETS if secret in text]
    data = tomllib.loads(text)["data"]
    assert (data["label"], data["site"], data["patient"], data["drop"]) == (
        "outcome", "hospital", "patient", ["record_id"]
    )  # fmt: skip
    assert [name for name, *_ in data["ranges"]] == ["age", "bmi"]
    assert [name for name, *_ in data["categories"]] == ["smoker", "outcome"]
    assert "unit" not in tomllib.loads(text)["vary"]["privacy"][0] and "# with several records of a patient" in text
    assert data["sites"] == 2 and data["partition"] == "by-key" and data["drop-missing"]


def test_it_is_refused_with_exactly_the_lines_to_be_filled_in(clinics):
    path = write_study(clinics)
    lines = path.read_text().splitlines()
    wanted = [number for number, line in enumerate(lines, 1) if "<" in line and not line.startswith("#")]
    with pytest.raises(Refused) as error:
        read(path)
    spans = re.search(r"lines (.*) are to be filled in", str(error.value))[1]
    named = [
        number
        for span in spans.split(", ")
        for number in range(int(span.split(" to ")[0]), int(span.split(" to ")[-1]) + 1)
    ]
    assert named == wanted == list(open_lines(path.read_text())) and len(wanted) == 4


def test_filled_in_it_plans(clinics):
    path = write_study(clinics)
    path.write_text(filled(path.read_text()))
    plan = Study.read(path).plan()
    assert not plan.refused and plan.materials.consortium(0).omitted  # the row with a gap is counted


def test_one_line_left_is_one_line_named(clinics):
    path = write_study(clinics)
    path.write_text(filled(path.read_text()).replace('["bmi", 10, 80]', f'["bmi", 10, "{HIGH}"]'))
    with pytest.raises(Refused, match=r"^clinics\.toml: line \d+ is to be filled in"):
        read(path)


def test_nothing_is_written_over(clinics):
    write_study(clinics).write_text("mine")
    with pytest.raises(Refused, match="exists, and init writes over nothing"):
        write_study(clinics)
    assert (clinics.parent / "clinics.toml").read_text() == "mine"
    assert write_study(clinics, clinics.parent / "new" / "other.toml").is_file()


def test_other_dialects_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with gzip.open("a.csv.gz", "wt") as file:
        file.write("Clinic;Grösse;target\n" + "a;1,5;0\nb;2,5;1\n" * 9)
    data = tomllib.loads(write_study(tmp_path / "a.csv.gz").read_text())["data"]
    assert data["separator"] == ";" and data["site"] == "Clinic" and [r[0] for r in data["ranges"]] == ["Grösse"]


def test_an_archive_names_its_labels_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    keys = np.repeat(["north", "south"], 100)
    np.savez("scans.npz", x=generator.integers(0, 256, (200, 8, 8), dtype=np.uint8), y=np.arange(200) % 2, keys=keys)
    path = write_study(tmp_path / "scans.npz")
    with pytest.raises(Refused, match="line 10 is to be filled in"):
        read(path)
    path.write_text(path.read_text().replace(f'["{WORD}", "{WORD}"]', '["healthy", "nodule"]'))
    plan = Study.read(path).plan()
    assert not plan.refused and plan.spec.data.shares.sites == 2


def test_a_folder_of_pictures_plans_at_once(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for label in ("healthy", "ill"):
        (tmp_path / "lungs" / label).mkdir(parents=True)
        for i in range(100):
            pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            image.fromarray(pixels).save(tmp_path / "lungs" / label / f"{i}.png")
    assert not Study.read(write_study(tmp_path / "lungs")).plan().refused


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "", "cannot be read as CSV"),
        ("a.csv", "x\n1\n", "has one column"),
        ("a.csv", "x,y\n", "has no rows"),
        ("a.csv", b"\xff\xfe\x00x", "cannot be read as CSV"),
        ("a.npz", b"no archive", "cannot be read as npz"),
        ("a.txt", "hello", "is no table, archive or folder"),
        ("a.parquet", b"no parquet", "Parquet"),
    ],
)
def test_what_is_no_data_is_refused(tmp_path, name, content, reason):
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(Refused, match=reason):
        write_study(file, tmp_path / "study.toml")
    assert not (tmp_path / "study.toml").exists()


def test_an_empty_folder_and_no_file_are_refused(tmp_path):
    for path, reason in ((tmp_path, "folders with pictures"), (tmp_path / "none", "there is no")):
        with pytest.raises(Refused, match=reason):
            write_study(path, tmp_path / "study.toml")
