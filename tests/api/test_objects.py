"""A study of objects: stored once under their digest, private, and the same to another process."""

import stat

import numpy as np
import pytest
import torch
from torch import nn

from consilium import Results, Study
from consilium.core.errors import Refused
from consilium.study.executors.distributed.folder import prepared_in, written_tables

RNG = np.random.default_rng(0)
X = RNG.random((200, 4)).astype("float32")
Y = (X[:, 0] > 0.5).astype(int)
KEYS = np.array(["north", "south"])[np.arange(200) % 2]
HEAD = {"federation": {"kind": "fed-sgd", "rounds": 1}, "options": {"threads": 1}}


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale, self.inner = scale, nn.Linear(4, 2)

    def forward(self, x):
        return self.inner(x * self.scale)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def study(**changes):
    return Study(**{"name": "objects", "data": (X, Y), "model": network(), **HEAD, **changes})


def inputs(out):
    return sorted((out / "objects" / "inputs").iterdir())


def test_objects_are_run_and_run_once(tmp_path):
    first = study().run(tmp_path, quiet=True)
    assert first.outcome.trained == 1 and not first.outcome.failed
    (tmp_path / "again").mkdir()
    (tmp_path / "objects").rename(tmp_path / "again" / "objects")  # wherever the folder is
    second = study().run(tmp_path / "again", quiet=True)
    assert second.outcome.trained == 0 and second.outcome.reused == 1
    cell = Results.read(second.folder).cells[0]
    assert isinstance(cell.model, nn.Sequential)  # torch's layers need no leave
    assert set(map(tuple, cell.test.x.tolist())) <= set(map(tuple, X.tolist()))


def test_they_lie_in_the_study_s_folder_for_their_owner_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study().plan(out=tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]
    files = inputs(tmp_path / "here")
    assert [path.suffix for path in files] in ([".npz", ".safetensors"], [".safetensors", ".npz"])
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    study().plan(out=tmp_path / "here")
    assert inputs(tmp_path / "here") == files


@pytest.mark.parametrize("change", ["data", "weights", "structure"])
def test_another_object_is_another_training(tmp_path, change):
    other = network()
    if change == "weights":
        with torch.no_grad():
            other[0].weight[0, 0] += 1
    if change == "structure":
        other[2] = nn.Tanh()
    data = (X, 1 - Y) if change == "data" else (X, Y)
    one, two = (s.plan(out=tmp_path) for s in (study(), study(data=data, model=other)))
    assert one.trainings.keys() != two.trainings.keys()


def test_arrays_are_the_file_that_holds_them(tmp_path):
    np.savez(tmp_path / "same.npz", x=X, y=Y, keys=KEYS)
    table = {"kind": "npz", "path": str(tmp_path / "same.npz"), "partition": "by-key", "sites": 2}
    file = study(data=table, model="logistic").plan().materials.consortium(0)
    arrays = study(data={"x": torch.from_numpy(X), "y": Y, "sites": list(KEYS)}, model="logistic").plan(out=tmp_path)
    sites = arrays.materials.consortium(0).sites
    assert [site.id for site in sites] == [site.id for site in file.sites]
    assert all(torch.equal(a.records.train.x, b.records.train.x) for a, b in zip(sites, file.sites, strict=True))


def test_a_frame_is_its_table(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd")).assign(ill=np.where(Y == 1, "yes", "no"))
    frame.to_csv(tmp_path / "same.csv", index=False)
    knobs = {"label": "ill", "ranges": [[c, 0, 1] for c in "abcd"], "categories": [["ill", "no", "yes"]]}
    table = {"kind": "table", "path": str(tmp_path / "same.csv"), **knobs}
    one = study(data=table, model="logistic").plan().materials.consortium(0)
    two = study(data={"frame": frame, **knobs}, model="logistic").plan(out=tmp_path).materials.consortium(0)
    assert torch.equal(one.test.x, two.test.x) and one.classes == two.classes == ("no", "yes")


def test_another_process_has_them(tmp_path):
    folder, _ = study(data={"x": X, "y": Y}, model=Scaled(2.0)).prepare(tmp_path)
    prepared, _ = prepared_in(folder)
    module = prepared.context.plan.materials.network(0).template
    assert type(module).__name__ == "Scaled" and module.scale == 2.0


def test_a_changed_file_is_refused(tmp_path):
    study().plan(out=tmp_path)
    plan = study(model="logistic").prepare(tmp_path)
    path = next(path for path in inputs(tmp_path) if path.suffix == ".npz")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Refused, match="was changed after it was stored"):
        prepared_in(plan[0])


def frame_of(**columns):
    return pytest.importorskip("pandas").DataFrame(columns)


class Held(nn.Module):
    def __init__(self, thing):
        super().__init__()
        self.inner, self.thing = nn.Linear(4, 2), thing

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model": Held(object())}, r"model: the model.thing is a object, and only plain values"),
        ({"model": Held(torch.zeros(3))}, r"model: the model.thing is a Tensor that is no registered part"),
        ({"model": Held(lambda x: x)}, r"model: the model.thing is <lambda> of .*, which cannot be imported"),
        ({"model": nn.LazyLinear(2)}, "model: the model has no shape yet: it is lazy"),
        ({"data": {"x": X, "y": Y, "patient": KEYS}}, "data.patient: there is no array 'patient' in a data set"),
        ({"data": {"x": X, "y": np.array([None, 1], dtype=object)}}, "data.y: y holds Python objects"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused(tmp_path, changes, line):
    with pytest.raises(Refused, match=line):
        study(**changes).plan(out=tmp_path)


def test_hooks_are_refused(tmp_path):
    model = network()
    model[0].register_forward_hook(lambda *_: None)
    with pytest.raises(Refused, match="model: 0 has hooks, which are not stored"):
        study(model=model).plan(out=tmp_path)


def test_frames_whose_rows_mean_more_are_refused(tmp_path):
    frame = frame_of(a=[0.1, 0.2], ill=["no", "yes"])
    with pytest.raises(Refused, match="a DataFrame has no label by itself"):
        study(data=frame).plan(out=tmp_path)
    with pytest.raises(Refused, match="has an index, which is no column"):
        study(data={"frame": frame.set_index("a"), "label": "ill"}).plan(out=tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.Linear(12, 2)),
        nn.GRU(4, 3, batch_first=True),
        nn.MultiheadAttention(4, 2),
        nn.TransformerEncoderLayer(4, 2, 8, activation=torch.nn.functional.gelu),
    ],
    ids=lambda model: type(model).__name__,
)
def test_torch_s_layers_come_back(model):
    from consilium.learn.user_code.skeleton import from_skeleton, skeleton, tensors_of

    model[0].weight.requires_grad_(False) if isinstance(model, nn.Sequential) else None
    again = from_skeleton(skeleton(model), tensors_of(model)).eval()
    x = torch.rand(3, 1, 2, 2) if isinstance(model, nn.Sequential) else torch.rand(2, 3, 4)
    words = (x, x, x) if isinstance(model, nn.MultiheadAttention) else (x,)
    ours, theirs = model.eval()(*words), again(*words)
    ours, theirs = (a if isinstance(a, tuple) else (a,) for a in (ours, theirs))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]


def test_shared_weights_stay_shared():
    from consilium.learn.user_code.skeleton import from_skeleton, skeleton, tensors_of

    layer = nn.Linear(4, 4)
    again = from_skeleton(skeleton(nn.Sequential(layer, nn.ReLU(), layer)), tensors_of(nn.Sequential(layer)))
    assert again[0] is again[2]


SCRIPT = """
import sys, numpy as np, torch
from torch import nn
from consilium import Study
FACTOR = {factor}
def scaled(x):
    return x * FACTOR
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 2)
    def forward(self, x):
        return self.inner(scaled(x))
del sys.modules["__main__"].__file__  # as in a notebook
torch.manual_seed(0)
x = np.random.default_rng(0).random((200, 4)).astype("float32")
study = Study(name="cell", data=(x, (x[:, 0] > 0.5).astype(int)), model=Net(), options={{"threads": 1}},
              federation={{"kind": "fed-sgd", "rounds": 1}})
print(study.run("out", quiet=True).outcome.trained)
try:
    study.prepare("out")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_class_of_a_notebook_is_hashed_with_what_it_uses(tmp_path, consilium_cli):
    def run(factor):
        (tmp_path / "cell.py").write_text(SCRIPT.format(factor=factor))
        done = consilium_cli(program=tmp_path / "cell.py", cwd=tmp_path)
        assert done.code == 0, done.err
        return done.out

    first, again, other = run(1.0), run(1.0), run(0.5)
    assert first.startswith("1\n") and again.startswith("0\n") and other.startswith("1\n")
    assert "Refused model: __main__:Net is of this notebook or script, which no other process has" in first


@pytest.mark.parametrize("more", [lambda x, y: (x, y, y), lambda x, y: x, lambda x, y: (x, list(y)), lambda x, y: [x]])
def test_data_of_other_than_two_arrays_are_refused_without_their_values(tmp_path, more):
    x, y = np.full((40, 4), 0.8125, "float32"), np.arange(40) % 2
    with pytest.raises(Refused, match=r"^data: it is a .*ndarray.* Give a pair of NumPy arrays") as refusal:
        Study(name="short", data=more(x, y), model="logistic").plan(out=tmp_path)
    assert "0.81" not in str(refusal.value)


def test_arrays_are_named_as_they_were_handed_over(tmp_path):
    """And not by the file that they are kept in; a user's own file is."""
    x, y = np.random.default_rng(0).random((40, 4), "float32"), np.arange(40) % 2 + 0.5
    with pytest.raises(Refused, match=r"^data\[y\]: record 0 has the label 0\.5"):
        Study(name="halves", data=(x, y), model="logistic").plan(out=tmp_path)
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    with pytest.raises(Refused, match=r"mine\.npz\[y\]: record 0"):
        Study(name="halves", data={"kind": "npz", "path": str(tmp_path / "mine.npz")}, model="logistic").plan()


def test_a_written_study_has_no_object(tmp_path):
    assert written_tables(study().plan(out=tmp_path).spec)["model"]["kind"] == "stored-module"


def test_arrays_have_attributes(tmp_path):
    sex = np.array(["m", "f"])[np.arange(200) // 2 % 2]
    data = {"x": X, "y": Y, "sex": sex, "age": [40, 50] * 100, "attributes": ["sex", "age"]}
    assert study(data=data).run(tmp_path, quiet=True).outcome.trained == 1
    (stored,) = [file for file in inputs(tmp_path) if file.suffix == ".npz"]
    with np.load(stored) as arrays:
        assert (arrays["sex"] == sex).all() and arrays["age"].tolist() == data["age"]
    with pytest.raises(Refused, match=r"data.sex: there is no array 'sex'.*attributes = \[.sex.\]"):
        study(data={"x": X, "y": Y, "sex": sex}).plan(out=tmp_path)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_masked_array_is_refused(tmp_path, axis):
    mask = np.arange(200) == 7
    hidden = {"x": np.ma.masked_array(X, np.repeat(mask[:, None], 4, 1)), "y": np.ma.masked_array(Y, mask)}[axis]
    with pytest.raises(Refused, match=f"data.{axis}: {axis} is a masked array with {4 if axis == 'x' else 1} masked"):
        study(data={"x": X, "y": Y, axis: hidden}).plan(out=tmp_path)
    study(data=(np.ma.masked_array(X), Y)).plan(out=tmp_path)  # nothing is masked


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (([[0.961]], [1]), "it is a tuple of list, list"),
        ([np.full((2, 2), 0.961)] * 3, "it is a list of ndarray, ndarray, ndarray"),
        (np.full((2, 2), 0.961), "it is a ndarray"),
    ],
)
def test_what_is_no_pair_of_arrays_is_refused_without_its_values(tmp_path, raw, said):
    with pytest.raises(Refused) as caught:
        study(data=raw).plan(out=tmp_path)
    assert said in str(caught.value) and "0.961" not in str(caught.value) and "(x, y)" in str(caught.value)


def test_a_frame_and_a_series_are_refused_without_their_values(tmp_path):
    pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
    with pytest.raises(Refused, match=r"it is a tuple of DataFrame, Series.*\"frame\": df") as caught:
        study(data=(pd.DataFrame({"a": [0.961]}), pd.Series([0.961]))).plan(out=tmp_path)
    assert "\n" not in str(caught.value) and "0.961" not in str(caught.value)


@pytest.mark.parametrize(("value", "words"), [("0.7", "the DataFrame has no rows"), ("1e9", "row 2 has y = 1e+09")])
def test_a_refusal_of_a_frame_names_no_stored_file(value, words, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"age": [1.0, 2.0, 3.0], "y": [0.5, float(value), 0.2]})
    task = {"kind": "regression", "low": 0, "high": 0.9, "tolerance": 0.1}
    data = {"frame": frame if "row" in words.split() else frame.iloc[:0], "target": "y", "task": task}
    with pytest.raises(Refused) as refusal:
        study(data=data, model="logistic").plan(out=tmp_path)
    assert "inputs/" not in str(refusal.value) and words in str(refusal.value)
