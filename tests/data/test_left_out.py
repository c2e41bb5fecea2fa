"""What is left out is counted, by site and by why; a site or a class that would be lost whole is refused."""

import os

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.data.division.sites import gather
from consilium.data.partitions.by_key import ByKey
from consilium.data.partitions.iid import IID
from consilium.data.sources.image_folder import ImageFolder
from consilium.data.sources.med_mnist import MedMNIST
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table
from consilium.learn.tasks.single_label import SingleLabel

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
N = 200


@pytest.fixture
def csv(tmp_path):
    def write(**columns):
        path = tmp_path / "mine.csv"
        pd.DataFrame(columns).to_csv(path, index=False)
        return str(path)

    return write


def refusal(source):
    with pytest.raises(Refused) as caught:
        source.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lines(source):
    return [one.line() for one in source.load().omitted]


def test_people_are_text(csv):
    """18 digits stay apart, 01 is not 1, and 1e2 is not 100: as floats, 200 patients were 13."""
    ids = [str(10**17 + i) for i in range(N - 4)] + ["01", "1", "1e2", "100"]
    path = csv(pid=ids, ward=["01", "1"] * 100, age=np.arange(N) % 70, y=np.arange(N) // 2 % 2)
    dataset = Table(path, "y", patient="pid", site="ward").load()
    assert len(dataset.records.units.unique()) == N and dataset.key_names == ("01", "1")


@pytest.mark.parametrize("knob", ["patient", "site"])
def test_a_missing_name_is_refused_by_row(csv, knob):
    ids = [str(i) for i in range(N)]
    ids[5] = ""
    path = csv(pid=ids, age=np.arange(N) % 70, y=np.arange(N) % 2)
    assert f"{knob}: the {knob} is missing in 1 row of column 'pid', such as row 6" in refusal(
        Table(path, "y", drop_missing=True, **{knob: "pid"})
    )


def test_ids_of_a_typed_file_keep_their_digits(tmp_path):
    frame = pd.DataFrame({"pid": [2**60 + k for k in range(4)], "a": [0, 1, 2, 3], "y": [0, 1, 0, 1]})
    frame.to_parquet(tmp_path / "whole.parquet")
    assert len(Table(str(tmp_path / "whole.parquet"), "y", patient="pid").load().records.units.unique()) == 4
    frame.assign(pid=frame["pid"].astype(float)).to_parquet(tmp_path / "float.parquet")
    assert "pid: row 1 is named" in refusal(Table(str(tmp_path / "float.parquet"), "y", patient="pid"))


def test_ids_of_two_types_in_an_archive_stay_apart(tmp_path):
    x, y = np.zeros((2, 3), np.float32), np.array([0, 1])
    parts = {f"{part}_{what}": value for part in ("train", "test") for what, value in (("images", x), ("labels", y))}
    big = np.array([2**63 - 1, 2**63 - 2])
    np.savez(tmp_path / "ids.npz", **parts, train_units=big, test_units=np.array([2**63 + 1, 2**63], np.uint64))
    assert len(NPZ(str(tmp_path / "ids.npz")).load().records.units.unique()) == 4


def test_names_that_lost_digits_are_refused(tmp_path, csv):
    """A spreadsheet shortens long numbers and float32 keeps 24 bits: 120 people were 3, and 61."""
    shortened = [f"{123456700000 + 9999 * i:.5E}" for i in range(N)]
    path = csv(pid=shortened, age=np.arange(N), y=np.arange(N) % 2)
    assert "row 1 is named 1.23457E+11: a spreadsheet has shortened it" in refusal(Table(path, "y", patient="pid"))
    x, y = np.random.default_rng(0).random((120, 4)), np.arange(120) % 2
    for dtype, start in ((np.float32, 20_000_001), (np.float16, 3001)):
        np.savez(tmp_path / "f.npz", x=x, y=y, units=(start + np.arange(120)).astype(dtype))
        assert f"{np.dtype(dtype)} keeps no name above" in refusal(NPZ(str(tmp_path / "f.npz")))


def test_a_typed_file_is_read_as_text_is(tmp_path):
    """-9 is a gap as -9.0 too, a named index is a column, and blanks around words are none of them."""
    frame = pd.DataFrame({"age": range(120), "bmi": [-9.0] * 20 + list(range(100)), "y": ["ill", "well", "ill "] * 40})
    frame.set_index("age").to_parquet(tmp_path / "m.parquet")
    dataset = Table(str(tmp_path / "m.parquet"), "y", missing=("-9",), drop_missing=True).load()
    assert dataset.records.x.shape == (100, 2) and dataset.classes == ("ill", "well")
    assert [one.count for one in dataset.omitted] == [20]


def test_a_hospital_with_a_gap_in_every_row_is_refused(csv):
    chol = np.where(np.arange(N) < 100, np.arange(N), np.nan)
    knobs = {"ward": ["a"] * 100 + ["b"] * 100, "age": np.arange(N), "y": np.arange(N) % 2}
    said = refusal(Table(csv(chol=chol, **knobs), "y", site="ward", drop_missing=True))
    assert (
        "site 'b' is lost whole: each of its 100 is one of the rows with a gap. Fill the gaps in 'chol' (100)" in said
    )
    chol[150] = 7.0
    table = Table(csv(chol=chol, **knobs), "y", site="ward", drop_missing=True, ranges=(("chol", 5.0, 300.0),))
    assert lines(table) == [
        "99 rows with a gap (site b): 'chol' (99)",
        "5 values of 'chol' clipped to its declared range (site a)",
    ]


def test_heart_disease_loses_no_hospital_in_silence(real):
    path = real / "heart-disease.csv"
    if not path.is_file():
        pytest.skip("heart-disease.csv is not in CONSILIUM_DATA")
    frame = pd.read_csv(path, nrows=3)
    site = next(name for name in frame.columns if name.lower() in ("site", "hospital", "location", "center", "dataset"))
    label = next(name for name in frame.columns if name.lower() in ("num", "target", "y", "label", "diagnosis"))
    said = refusal(Table(str(path), label, site=site, drop_missing=True))
    assert "is lost whole" in said and "switzerland" in said.lower()


def test_duplicates_are_counted_by_site_and_take_no_site_whole(csv):
    age = list(range(100)) + list(range(99)) + [500]
    knobs = {"public": 0.0, "validation": 0.1, "test": 0.1, "non_members": 0.1, "stream": Stream(0)}
    with pytest.raises(Refused, match="site 'b' is lost whole: each of its 100 is one of the exact duplicates"):
        gather(Table(csv(ward=["a"] * 100 + ["b"] * 100, age=[*range(100)] * 2, y=np.arange(N) % 2), "y", site="ward"),
               ByKey(), SingleLabel(), sites=2, **knobs)  # fmt: skip
    path = csv(ward=["a"] * 100 + ["b"] * 100, age=age, y=np.arange(N) % 2)
    data = gather(Table(path, "y", site="ward"), IID(), SingleLabel(), sites=2, **knobs)
    assert [one.line() for one in data.omitted] == ["99 exact duplicates removed (site b)"]


def test_words_that_mean_a_gap_are_categories_where_declared(csv):
    words = np.array(["None", "Mild", "NA"])[np.arange(N) % 3]
    path = csv(age=np.arange(N), complication=words, y=np.arange(N) % 2)
    x = Table(path, "y", categories=(("complication", "None", "Mild", "NA"),)).load().records.x
    assert x[:, 1:].sum(0).tolist() == [67, 67, 66]
    assert "values are missing in 'complication' (133)" in refusal(Table(path, "y"))


@pytest.mark.parametrize("bad", ["45,000", "<5", "23%", "12 mg", "unknown"])
def test_what_is_no_number_among_numbers_is_refused_by_cell(csv, bad):
    values = [str(v) for v in range(N)]
    values[6] = bad
    said = refusal(Table(csv(lab=values, y=np.arange(N) % 2), "y"))
    assert f"column 'lab' does not hold numbers: row 7 has '{bad}'" in said and "declare its categories" in said
    assert "its range is declared" in refusal(
        Table(csv(lab=values, y=np.arange(N) % 2), "y", ranges=(("lab", 0.0, 300.0),))
    )
    marked = [f"{v}%" for v in range(N)]
    assert "row 1 has '0%'" in refusal(Table(csv(lab=marked, y=np.arange(N) % 2), "y"))


def test_a_few_marked_words_are_categories(csv):
    words = np.array(["<5", "5-10", ">10"])[np.arange(N) % 3]
    assert Table(csv(age=np.arange(N), dose=words, y=np.arange(N) % 2), "y").load().records.x.shape == (N, 4)


def test_separator_and_decimal(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a;b;y\n" + "".join(f"{i},5;{i % 7};{i % 2}\n" for i in range(20)))
    assert "looks parted by ';': set separator = \";\"" in refusal(Table(str(path), "y"))
    x = Table(str(path), "y", separator=";", decimal=",", ranges=(("a", 0.0, 20.0),)).load().records.x
    assert torch.allclose(x[:, 0], (torch.arange(20) + 0.5) / 20)
    path.write_text("".join(f"{i}  {i * 2 % 9} {i % 2}\n" for i in range(60)))
    assert 'set separator = " "' in refusal(Table(str(path), "y", columns=("a", "b", "y")))
    assert Table(str(path), "y", columns=("a", "b", "y"), separator=" ").load().records.x.shape == (60, 2)


def test_two_columns_of_one_name_and_one_without(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("a,a,y\n1,2,0\n2,3,1\n")
    assert "two columns of the table are called 'a'" in refusal(Table(str(path), "y"))
    path.write_text(",a,y\n0,2,0\n1,3,1\n")
    assert "column 1 of the table has no name" in refusal(Table(str(path), "y"))


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(str(path).encode()[-8:], "big") % 2**32
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_pictures_that_are_not_read_are_counted(tmp_path):
    for i in range(8):
        put(tmp_path / "xy"[i % 2] / f"{i}.png")
        put(tmp_path / "xy"[i % 2] / f"p{i}" / f"{i}.png")
        put(tmp_path / "x" / f"{i}.tif")
    assert lines(ImageFolder(str(tmp_path), size=9)) == [
        "8 files not read: .tif is not .png, .jpg or .jpeg: x/0.tif, x/1.tif, x/2.tif, x/3.tif, x/4.tif, ...",
        "8 pictures not read: not straight in the folder of a class: x/p0/0.png, x/p2/2.png, x/p4/4.png, x/p6/6.png, "
        "y/p1/1.png, ...",
    ]
    put(tmp_path / "z" / "9.tif")
    assert "class 'z' is lost whole: none of its 1 files is read, such as 9.tif" in refusal(ImageFolder(str(tmp_path)))


@pytest.mark.parametrize(
    "names", [("train", "valid", "Test"), ("Training", "val", "testing"), ("TRAIN", "dev", "test")]
)
def test_splits_are_read_in_any_spelling(tmp_path, names):
    for part in names:
        for i in range(8):
            put(tmp_path / part / "xy"[i % 2] / f"{i}.png")
    dataset = ImageFolder(str(tmp_path), size=9).load()
    assert torch.bincount(dataset.split.long()).tolist() == [8, 8, 8] and dataset.classes == ("x", "y")
    put(tmp_path / "extra" / "x" / "9.png")
    assert lines(ImageFolder(str(tmp_path), size=9))[0].startswith("1 pictures not read")
    put(tmp_path / "validation" / "x" / "9.png")
    if "dev" not in names:
        assert "both name the validation split" in refusal(ImageFolder(str(tmp_path)))


def test_links_that_lead_nowhere_and_empty_folders_are_counted(tmp_path):
    for i in range(8):
        put(tmp_path / "xy"[i % 2] / f"{i}.png")
    (tmp_path / "x" / "l.png").symlink_to("/nowhere/l.png")
    (tmp_path / "none").mkdir()
    assert lines(ImageFolder(str(tmp_path), size=9)) == [
        "1 links not read: they lead nowhere: x/l.png",
        "1 folders without a picture: none",
    ]
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "l.png").symlink_to("/nowhere/l.png")
    assert "class 'z' is lost whole" in refusal(ImageFolder(str(tmp_path)))


def test_a_split_without_training_pictures_is_refused(tmp_path):
    put(tmp_path / "val" / "x" / "1.png")
    put(tmp_path / "test" / "x" / "1.png")
    assert "and none called train" in refusal(ImageFolder(str(tmp_path)))


def test_a_name_that_is_no_text_is_refused_by_name(tmp_path):
    for i in range(8):
        put(tmp_path / "xy"[i % 2] / f"{i}.png")
    (tmp_path / "x").rename(tmp_path / os.fsdecode(b"L\xe4sion"))
    assert "L\\xe4sion is not UTF-8" in refusal(ImageFolder(str(tmp_path)))


def test_only_two_decoders_are_used(tmp_path, monkeypatch):
    """A .png that is PostScript never reaches Ghostscript: no program is started."""
    for i in range(4):
        put(tmp_path / "xy"[i % 2] / f"{i}.png")
    (tmp_path / "x" / "z.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")
    assert "z.png cannot be read as a picture" in refusal(ImageFolder(str(tmp_path)))


def test_archives_in_any_spelling_and_what_is_not_read(tmp_path):
    pixels, y = np.random.default_rng(0).integers(0, 256, (120, 8, 8), dtype=np.uint8), np.arange(120) % 2
    path = tmp_path / "v.npz"
    parts = {"train": slice(0, 80), "valid": slice(80, 100), "Test": slice(100, 120)}
    arrays = {f"{k}_images": pixels[v] for k, v in parts.items()} | {f"{k}_labels": y[v] for k, v in parts.items()}
    np.savez(path, **arrays, age=y)
    dataset = NPZ(str(path)).load()
    assert torch.bincount(dataset.split.long()).tolist() == [80, 20, 20]
    assert lines(NPZ(str(path))) == ["1 arrays not read: age"]
    np.savez(path, **arrays, val_images=pixels[:5], val_labels=y[:5])
    assert "'valid' and 'val' both name the validation split" in refusal(NPZ(str(path)))
    np.savez(path, x=pixels, y=y, test_images=pixels, test_labels=y)
    assert "is there a split, or is there none?" in refusal(NPZ(str(path)))


def test_volumes_are_refused_as_volumes():
    with pytest.raises(Refused, match="organmnist3d holds volumes"):
        MedMNIST("organmnist3d")


@pytest.mark.parametrize("form", ["{:.5E}", "{:.5e}", "{:.0E}"])
def test_names_that_a_spreadsheet_shortened_are_refused_in_every_form(csv, form):
    names = [form.format(123456700000 + 9999 * i).replace(".", ",") for i in range(N)]
    said = refusal(Table(csv(pid=names, age=np.arange(N), y=np.arange(N) % 2), "y", patient="pid"))
    assert "a spreadsheet has shortened it" in said
    assert "a spreadsheet has shortened it" in refusal(
        Table(csv(pid=[name.replace("+", "") if "," in name else name for name in names], age=np.arange(N),
                  y=np.arange(N) % 2), "y", patient="pid")
    )  # fmt: skip
