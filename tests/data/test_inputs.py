"""Every source says what its inputs mean; what was read from the records is marked, and its limits are not kept."""

import ast
from pathlib import Path

import numpy as np
import pytest

import consilium.data.sources
from consilium.core.errors import Refused
from consilium.core.inputs import Column, Inputs
from consilium.core.random import Stream
from consilium.data.division.sites import gather
from consilium.data.files.meaning import STORED_BYTES, TABULAR
from consilium.data.partitions.iid import IID
from consilium.data.sources.breast_cancer import BreastCancer
from consilium.data.sources.digits import Digits
from consilium.data.sources.image_folder import ImageFolder
from consilium.data.sources.npz import NPZ
from consilium.data.sources.table import Table
from consilium.learn.tasks.single_label import SingleLabel

SOURCES = sorted(Path(consilium.data.sources.__file__).parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_source_is_silent(path):
    """Each makes its data set with ``inputs``, or leaves that to the one place that opens MedMNIST files."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = {getattr(call.func, "id", ""): {keyword.arg for keyword in call.keywords} for call in calls}
    assert "open_medmnist" in named or "inputs" in named["Dataset"]


def table(tmp_path, **knobs):
    pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
    path = tmp_path / "mine.csv"
    path.write_text("age,sex,who,ill\n20,F,a,no\n40,M,a,yes\n30,F,b,no\n")
    return Table(str(path), label="ill", **knobs).load().inputs


def test_a_table_that_declares_all(tmp_path):
    words = (("sex", "M", "F"), ("ill", "yes", "no"))
    declared = table(tmp_path, patient="who", ranges=(("age", 0.0, 110.0, "years"),), categories=words)
    columns = (Column("age", (0.0, 110.0), unit="years"), Column("sex", words=("M", "F")))
    assert declared == Inputs(columns, TABULAR, patients=True)


def test_a_table_that_declares_nothing(tmp_path):
    columns = (Column("age", declared=False), Column("sex", words=("F", "M"), declared=False))
    assert table(tmp_path, drop=("who",)) == Inputs(columns, TABULAR, classes_declared=False)


def test_a_range_with_a_unit_scales_as_one_without(tmp_path):
    pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
    (tmp_path / "mine.csv").write_text("age,ill\n20,no\n40,yes\n")
    plain, named = (
        Table(str(tmp_path / "mine.csv"), "ill", ranges=(("age", 0.0, 80.0, *unit),)) for unit in ((), ("years",))
    )
    assert plain.load().records.x.tolist() == named.load().records.x.tolist() == [[0.25], [0.5]]
    with pytest.raises(Refused, match="column, low, high, unit"):
        Table("x.csv", "ill", ranges=(("age", 0.0, 80.0, ""),))


def saved(path, **arrays):
    np.savez(path, **arrays)
    return NPZ(str(path), classes=("a", "b")).load().inputs


def test_arrays(tmp_path):
    y, x = np.arange(6) % 2, np.arange(6 * 9).reshape(6, 3, 3)
    pictures = saved(tmp_path / "x.npz", x=x.astype(np.uint8), y=y, units=np.arange(6) // 2)
    assert pictures == Inputs(preparation=STORED_BYTES, patients=True)
    assert dict(saved(tmp_path / "x.npz", x=x / 100, y=y).preparation)["values"] == "floats as stored"
    features = saved(tmp_path / "x.npz", x=x.reshape(6, 9)[:, :2] / 100, y=y, columns=np.array(["b", "a"]))
    assert features == Inputs((Column("b"), Column("a")), (("values", "floats as stored"),))
    parts = {"train_images": x.astype(np.uint8), "train_labels": y, "test_images": x / 100, "test_labels": y}
    assert dict(saved(tmp_path / "x.npz", **parts).preparation)["values"] == "floats as stored and uint8 / 255"


@pytest.mark.parametrize(
    "columns", [["a"], ["a", "a"], [1, 2], [["a", "b"]], "a"], ids=["few", "twice", "numbers", "shape", "text"]
)
def test_names_that_do_not_fit_the_features(tmp_path, columns):
    with pytest.raises(Refused, match=r"x.npz\[columns\]: columns of shape .* do not name features of shape \(2,\)"):
        saved(tmp_path / "x.npz", x=np.random.default_rng(0).random((6, 2)), y=np.arange(6) % 2, columns=columns)


def test_names_for_pictures_are_refused(tmp_path):
    with pytest.raises(Refused, match="do not name features"):
        saved(tmp_path / "x.npz", x=np.zeros((6, 3, 3)), y=np.arange(6) % 2, columns=np.array(["a", "b", "c"]))


def test_folders(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the extra 'images' is not installed")
    for k in range(4):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        image.fromarray(np.full((9, 9), 40 * k, dtype=np.uint8)).save(tmp_path / "ab"[k % 2] / f"p{k}.png")
    grey = ImageFolder(str(tmp_path), size=4).load().inputs
    colour = ImageFolder(str(tmp_path), size=4, channels=3, units="p(.)").load().inputs
    assert dict(grey.preparation)["colour"] == "grey, ITU-R 601-2" and not grey.patients
    assert dict(colour.preparation)["colour"] == "RGB" and colour.patients


def test_bundled_sets():
    columns = BreastCancer().load().inputs.columns
    assert columns[0] == Column("mean radius", (6.981, 28.11)) and len(columns) == 30
    assert Digits().load().inputs.preparation == (("values", "shades / 16"),)


def test_what_a_source_says_reaches_the_study(held):
    said = Inputs((Column("a", (0.0, 1.0)),), patients=True)
    shares = {"public": 0.0, "validation": 0.1, "test": 0.2, "non_members": 0.1}
    made = gather(held(y=[0, 1] * 50, inputs=said), IID(), SingleLabel(), sites=2, stream=Stream(0), **shares)
    assert made.inputs == said
