"""Names that nobody sees in a folder of pictures: counted, and refused where a split or a class is hidden."""

import numpy as np
import pytest

from consilium.core.errors import Refused
from consilium.data.sources.image_folder import ImageFolder

Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")


def put(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")


@pytest.fixture(params=["", "train"])
def root(tmp_path, request):
    """A data set with and without splits; ``top`` is where its classes are."""
    for i in range(8):
        put(tmp_path / request.param / "xy"[i % 2] / f"{i}.png", i)
        if request.param:
            put(tmp_path / "test" / "xy"[i % 2] / f"{i}.png", 100 + i)
    return tmp_path, tmp_path / request.param


def lines(path):
    return [one.line() for one in ImageFolder(str(path), size=9).load().omitted]


def refusal(path):
    with pytest.raises(Refused) as caught:
        ImageFolder(str(path), size=9).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


SYSTEM = [".DS_Store", "._0.png", "__MACOSX/x/._0.png", "Thumbs.db", "desktop.ini", ".Trashes/501/0.png",
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.png", ".ipynb_checkpoints/0-checkpoint.png", "$RECYCLE.BIN/S-1/a.png",
    ".Trash-1000/files/0.png", ".nfs0000000001", "thumbs.DB", "Icon\r"]  # fmt: skip


@pytest.mark.parametrize("name", SYSTEM)
@pytest.mark.parametrize("inside", ["", "x"])
def test_files_of_the_system_are_no_class_and_are_counted(root, name, inside):
    path, top = root
    put(top / inside / name)
    dataset = ImageFolder(str(path), size=9).load()
    assert dataset.classes == ("x", "y") and len(dataset.records) == (8 if path == top else 16)
    shown = (top / inside / name).relative_to(path)
    assert lines(path) == [f"1 files of the operating system not read: {shown}"]


def test_hidden_pictures_are_counted(root):
    path, top = root
    for name in (".8.png", ".9.JPG"):
        put(top / "x" / name, 8)
    (top / "x" / ".notes").write_text("none")
    (top / ".cache" / "deep").mkdir(parents=True)
    (top / ".cache" / "deep" / "index").write_text("none")
    place = "" if path == top else "train/"
    assert lines(path) == [
        "4 files not read: hidden, by a name that begins with a point: "
        f"{place}.cache/deep/index, {place}x/.8.png, {place}x/.9.JPG, {place}x/.notes"
    ]


@pytest.mark.parametrize("name", [".z/0.png", ".z/deeper/0.jpg", ".test/x/0.png", ".valid/x/0.png", "..z/0.png"])
def test_a_split_or_a_class_that_is_hidden_is_refused(root, name):
    path, top = root
    put(top / name)
    hidden = name.split("/")[0]
    said = refusal(path)
    assert f"{str(top / hidden)!r} holds 1 pictures, and is hidden: its name begins with a point" in said
    assert f"Rename it ({hidden.lstrip('.')}) if it is a split or a class, or move it away" in said


def test_a_hidden_split_beside_the_others(root):
    path, _ = root
    put(path / ".test" / "x" / "0.png")
    assert "'" + str(path / ".test") + "' holds 1 pictures" in refusal(path)


def test_a_class_of_hidden_pictures_is_lost_whole(root):
    path, top = root
    put(top / "z" / ".0.png")
    assert "class 'z' is lost whole: none of its 1 files is read, such as .0.png" in refusal(path)
    (top / "z" / ".0.png").rename(top / "z" / ".DS_Store")
    assert lines(path)[1].startswith("1 folders without a picture: ")


def test_a_data_set_of_its_own_hidden_folder_is_read(tmp_path):
    for i in range(8):
        put(tmp_path / ".data" / "xy"[i % 2] / f"{i}.png", i)
    assert lines(tmp_path / ".data") == []


@pytest.fixture
def listed(tmp_path):
    """Pictures whose classes stand in a CSV, in folders of any name."""
    for i in range(4):
        put(tmp_path / "scans" / f"{i}.png", i)
    rows = [f"{i}.png,{'xy'[i % 2]}" for i in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    return tmp_path, ImageFolder(str(tmp_path), size=9, labels="labels.csv", label="label")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("__MACOSX/scans/0.png", "1 files of the operating system not read: __MACOSX/scans/0.png"),
        ("scans/._0.png", "1 files of the operating system not read: scans/._0.png"),
        ("scans/.9.png", "1 files not read: hidden, by a name that begins with a point: scans/.9.png"),
    ],
)
def test_beside_a_list_they_are_counted_too(listed, name, line):
    path, source = listed
    put(path / name, 9)
    dataset = source.load()
    assert len(dataset.records) == 4 and [one.line() for one in dataset.omitted] == [line]


def test_a_hidden_folder_beside_a_list_is_refused_too(listed):
    path, source = listed
    put(path / ".test" / "9.png", 9)
    with pytest.raises(Refused, match="holds 1 pictures, and is hidden"):
        source.load()
