"""Pictures with a CSV of labels or a folder of masks; what does not fit together is refused by row and file."""

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.data.dataset import TEST, TRAIN
from consilium.data.sources.image_folder import ImageFolder
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel
from consilium.learn.tasks.survival import Survival

Image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")

HEAD = "file,effusion,nodule,age,died,report,patient,ward,sex"
ROWS = [
    "ge/0.png,1,no,40,0,Effusion|Nodule,P1,north,F",
    "1.png,0,yes,50,1,No Finding,P1,north,F",
    "2.png,1,yes,60,0,Nodule,P2,south,",
    "3.png,0,no,70,1,Effusion,P3,south,M",
]
NUMBER = Regression(low=0.0, high=100.0, tolerance=5.0)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "x-rays"
    for k in range(4):
        file = folder / ("ge" if k < 2 else "philips") / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), 60 * k, np.uint8)).save(file)
    write(folder)
    return folder


def write(folder, rows=ROWS, head=HEAD, name="labels.csv"):
    (folder / name).write_text("\n".join([head, *rows]) + "\n")


def refusal(root, task=MultiLabel(), **knobs):  # noqa: B008
    with pytest.raises(Refused) as caught:
        ImageFolder(str(root), size=6, **{"labels": "labels.csv", **knobs}).load_for(task)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("task", "knobs", "classes", "y"),
    [
        (MultiLabel(), {"target": ("effusion", "nodule")}, ("effusion", "nodule"), [[1, 0], [0, 1], [1, 1], [0, 0]]),
        (MultiLabel(), {"target": "report", "classes": ("Nodule", "Effusion"), "ignore": ("No Finding",)},
         ("Nodule", "Effusion"), [[1, 1], [0, 0], [1, 0], [0, 1]]),
        (NUMBER, {"target": "age"}, ("age",), [[40], [50], [60], [70]]),
        (Survival(cuts=(45.0, 65.0), horizon=65.0), {"time": "age", "event": "died"}, ("age", "died"),
         [[40, 0], [50, 1], [60, 0], [70, 1]]),
        (SingleLabel(), {"label": "nodule"}, ("no", "yes"), [0, 1, 1, 0]),
        (SingleLabel(), {"label": "nodule", "classes": ("yes", "no")}, ("yes", "no"), [1, 0, 0, 1]),
    ],
)  # fmt: skip
def test_a_csv_says_what_is_in_each_picture(root, task, knobs, classes, y):
    data = ImageFolder(str(root), size=6, labels="labels.csv", patient="patient", site="ward", **knobs).load_for(task)
    assert data.classes == classes and data.records.y.tolist() == y
    assert data.records.x[:, 0, 0, 0].tolist() == pytest.approx([60 * k / 255 for k in range(4)])
    assert data.unit_names == ("P1", "P2", "P3") and data.records.units.tolist() == [0, 0, 1, 2]
    assert data.key_names == ("north", "south") and data.keys.tolist() == [0, 0, 1, 1]
    assert "x-rays, 4 files" in data.provenance and "labels.csv, sha256" in data.provenance and not data.omitted


def test_attributes_come_from_the_csv_and_from_the_path(root):
    data = ImageFolder(
        str(root), size=6, labels="labels.csv", target="age", attributes=("sex", "scanner"),
        pattern=r"^(?P<scanner>[a-z]+)/",
    ).load_for(NUMBER)  # fmt: skip
    sex, scanner = data.records.attributes
    assert (sex.words, sex.codes.tolist()) == (("F", "M"), [0, 0, -1, 1])
    assert (scanner.words, scanner.codes.tolist()) == (("ge", "philips"), [0, 0, 1, 1])
    assert [one.line() for one in data.omitted] == ["1 values of the attribute 'sex' are not known"]


def test_folders_of_classes_have_attributes_by_their_paths_too(root):
    data = ImageFolder(str(root), size=6, attributes=("parity",), pattern=r"(?P<parity>[02])\.png$").load()
    assert data.classes == ("ge", "philips") and data.records.attributes[0].codes.tolist() == [0, -1, 1, -1]
    with pytest.raises(Refused, match="nothing says the attribute 'sex' of a picture"):
        ImageFolder(str(root), attributes=("sex",), pattern=r"(?P<parity>[02])").load()


def test_what_is_not_in_both_is_counted(root):
    write(root, [*ROWS[:3], "9.png,0,0,1,0,x,P9,north,F"])
    (root / "notes.txt").write_text("none")
    data = ImageFolder(str(root), size=6, labels="labels.csv", target="age").load_for(NUMBER)
    assert data.records.y.flatten().tolist() == [40, 50, 60]
    assert [one.line() for one in data.omitted] == [
        "1 files not read: not .png, .jpg or .jpeg: notes.txt",
        "1 pictures without a row in labels.csv: philips/3.png",
        "1 rows of labels.csv without a picture",
    ]


def test_pictures_with_a_gap_are_left_out_only_where_that_is_said(root):
    write(root, [*ROWS[:3], ROWS[3].replace(",70,", ",?,")])
    assert "column 'age', row 4, holds '?', and regression reads numbers" in refusal(root, NUMBER, target="age")
    knobs = {"labels": "labels.csv", "target": "age", "missing": ("?",), "drop_missing": True}
    data = ImageFolder(str(root), size=6, **knobs).load_for(NUMBER)
    assert len(data.records) == 3 and data.omitted[0].line() == "1 pictures with a gap in age"


def test_a_split_is_the_first_folder(root):
    (root / "ge").rename(root / "train")
    (root / "philips").rename(root / "Test")
    write(root, [row.replace("ge/", "train/") for row in ROWS])
    data = ImageFolder(str(root), size=6, labels="labels.csv", target="age").load_for(NUMBER)
    assert data.split.tolist() == [TEST, TEST, TRAIN, TRAIN]  # in the order of their paths
    assert data.records.y.flatten().tolist() == [60, 70, 40, 50]
    Image.new("L", (6, 6)).save(root / "5.png")
    assert "pictures outside them, such as in '5.png'" in refusal(root, NUMBER, target="age")


@pytest.mark.parametrize(
    ("rows", "knobs", "said"),
    [
        ([*ROWS, ROWS[1]], {}, "rows 2 and 5 of labels.csv both name '1.png'"),
        (["0,1,1,1,1,1,1,1,1"], {}, "no picture has a row in labels.csv: row 1 names '0', and the first picture is"),
        ([ROWS[0].replace(",no,", ",-1,")], {}, "column 'nodule', row 1, holds '-1', and a finding is 0 or 1"),
        (ROWS, {"target": ("effusion", "mass")}, "labels.csv has no column 'mass'"),
        (ROWS, {"file": "picture"}, "file: labels.csv has no column 'picture'"),
        (ROWS, {"target": "report", "classes": ("Nodule",), "ignore": ("No Finding",)},
         "column 'report', row 1, holds 'Effusion', which is no finding of classes"),
        (ROWS, {"classes": ("a", "b")}, "classes names the findings that one column lists, and target names 2"),
        (ROWS, {"units": r"(\d)", "patient": "patient"}, "units: patient names the patients, too"),
        (ROWS, {"labels": None}, "there is no file of labels for target"),
        (ROWS, {"labels": "nothing.csv"}, "nothing.csv does not exist"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(root, rows, knobs, said):
    write(root, rows)
    assert said in refusal(root, **{"target": ("effusion", "nodule"), **knobs})


def test_a_name_of_two_pictures_is_refused(root):
    Image.new("L", (6, 6)).save(root / "philips" / "1.png")
    assert "row 2 of labels.csv names '1.png', and 2 pictures bear that name" in refusal(root, target="effusion")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (MultiLabel(), "labels: the task multi-label is not asked of folders of classes. Name what says it of each"),
        (Masks(threshold=0.5), "masks: the task masks is not asked of folders of classes"),
    ],
)
def test_folders_of_classes_answer_no_other_task(root, task, said):
    with pytest.raises(Refused, match=r".") as caught:
        ImageFolder(str(root)).load_for(task)
    assert said in str(caught.value)


@pytest.mark.parametrize(("values", "labels"), [((0, 255), (0, 1)), ((0, 2), (0, 2)), ((1, 0), (1, 0))])
def test_masks_are_pictures_of_labels(root, values, labels):
    for file in root.rglob("*.png"):
        mask = np.full((12, 12), values[0], np.uint8)
        mask[:6] = values[1]
        target = root / "masks" / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(target)
    data = ImageFolder(str(root), size=6, masks="masks").load_for(Masks(threshold=0.5))
    oracle = torch.full((4, 6, 6), labels[0])
    oracle[:, :3] = labels[1]
    assert torch.equal(data.records.y, oracle) and data.records.y.dtype == torch.int64
    assert data.classes == tuple(f"label {k}" for k in range(max(labels) + 1)) and "masks" in data.provenance
    named = ImageFolder(str(root), size=6, masks="masks", classes=("background", "lung", "heart"))
    assert named.load_for(Masks(threshold=0.5)).classes == ("background", "lung", "heart")


def test_a_mask_that_is_none_is_refused_by_its_file(root):
    def said(mode, colour, name="masks/philips/3.png", **knobs):
        for file in [f for f in root.rglob("*.png") if "masks" not in f.parts]:
            target = root / "masks" / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (6, 6), 1).save(target)
        if colour is None:
            (root / name).unlink()
        else:
            Image.new(mode, (6, 6), colour).save(root / name)
        return refusal(root, Masks(threshold=0.5), labels=None, masks="masks", **knobs)

    assert "3.png is of mode RGB, and a mask has one number of 8 bits a pixel" in said("RGB", (1, 2, 3))
    assert "3.png is of mode I;16" in said("I;16", 3)
    assert "3.png holds the value 7, and labels are 0 to 1" in said("L", 7, classes=("background", "lung"))
    assert "1 of 4 pictures have no mask, such as philips/3.png" in said("L", None)
    (root / "masks" / "philips" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    assert "3.png cannot be read as a mask" in refusal(root, Masks(threshold=0.5), labels=None, masks="masks")
    with pytest.raises(Refused, match="a mask as a picture gives each pixel one label"):
        ImageFolder(str(root), masks="masks").load_for(Masks(threshold=0.5, nested=True))


def test_a_configuration_without_the_new_parameters_is_what_it_was():
    assert list(ImageFolder("x").configuration()) == [
        *("kind", "path", "size", "channels", "units", "max-pixels", "max-bytes"),
    ]
