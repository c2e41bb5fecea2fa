"""Whatever a user hands in: one clear line on standard error, exit code 2 or 3, and nothing finished is lost."""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

SMALL = {
    "name": "small",
    "threads": 1,
    "data": {"kind": "breast-cancer", "sites": 2},
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 1},
    "attacks": [{"kind": "fgsm", "radius": 0.05}],
}


@pytest.fixture
def refused(consilium_cli, as_toml, tmp_path):
    """Run a changed study; the one line on standard error, and the same refusal as JSON."""

    def run(code=2, env=None, **changes):
        (tmp_path / "study.toml").write_text(as_toml(SMALL | changes), encoding="utf-8")
        done = consilium_cli("run", "study.toml", "--json", cwd=tmp_path, env=env)
        assert done.code == code, done.err
        lines = done.err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("consilium: ") and "Traceback" not in done.err, done.err
        said = done.json
        assert said["exit_code"] == code and lines[0] == f"consilium: {said['error']}"
        assert said["remedy"], "what to do about it must be said"
        assert not list((tmp_path / "out").rglob("rounds.jsonl")), "nothing may be trained first"
        return lines[0]

    return run


# ---- the study file


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"data": {"kind": "digitz"}}, r"data\.kind: unknown source kind 'digitz'\. Did you mean 'digits'\?"),
        (
            {"attacks": [{"kind": "pgd", "step": 3}]},
            r"attacks\[0\]\.step: pgd has no knob 'step'.*mean 'steps'",
        ),
        ({"seeds": ["0"]}, r"seeds\[0\]: '0' is not a valid integer"),
        ({"vary": {"m": [["median", "median"]]}}, r"vary: arm 'median\+median': an arm has one merge.*\(LAWS 1\)"),
        ({"model": "resnet9"}, r"model\.kind: model resnet9 needs images .* \(30,\).*Use model\.kind = \"mlp\""),
        ({"device": "cuda:7"}, r"device: device cuda:7 is not there \(\d+ CUDA devices\)\. Set device = \"cpu\""),
        ({"data": {"kind": "breast-cancer", "sites": 500}}, r"data\.\S*: .*site"),
        ({"data": {"kind": "npz", "path": "no.npz"}}, r"data\.path: .*no\.npz does not exist\. Name an existing file"),
        ({"data": {"kind": "breast-cancer", "test": 0.0}}, r"data\.\S*: the test set is empty"),
    ],
)
def test_a_wrong_study_is_told_with_its_place(refused, changes, line):
    said = refused(**changes)
    assert re.search(line, said), said


def test_a_study_file_that_is_none(consilium_cli, tmp_path):
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(os.urandom(4000))
    (tmp_path / "huge.toml").write_bytes(b"#" * 2_000_000)
    (tmp_path / "empty.toml").write_bytes(b"")
    lines = {
        "folder.toml": r"cannot read folder\.toml: Is a directory",
        "binary.toml": r"binary\.toml: not TOML",
        "huge.toml": r"huge\.toml: a study file is at most 1 MB",
        "empty.toml": r"name: missing",
        "absent.toml": r"cannot read absent\.toml: No such file or directory\. Give the path of a study file",
    }
    for name, line in lines.items():
        for command in ("run", "plan"):
            done = consilium_cli(command, name, cwd=tmp_path)
            assert done.code == 2 and len(done.err.strip().splitlines()) == 1, done.err
            assert re.search(line, done.err), done.err
            assert done.out == "" and not (tmp_path / "out").exists()


# ---- the data


def saved(path, n=120, **changes):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.random((n, 6), dtype=np.float32), "y": np.arange(n) % 2}
    np.savez(path, **{**arrays, **{k: v(arrays) if callable(v) else v for k, v in changes.items()}})


def with_value(value):
    def change(arrays):
        x = arrays["x"].copy()
        x[7, 3] = value
        return x

    return change


def one_class_test(arrays):
    return {
        "train_images": arrays["x"],
        "train_labels": arrays["y"],
        "test_images": arrays["x"][::2] * 0.5,
        "test_labels": np.zeros(60, dtype=np.int64),
    }


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"x": with_value(np.nan)}, r"record 7 has NaN or infinite values\. Repair or drop"),
        ({"x": with_value(np.inf)}, r"record 7 has NaN or infinite values"),
        ({"x": with_value(255.0)}, r"record 7 has values outside \[0, 1\] .*255\)\. Store images as uint8, or divide"),
        ({"x": with_value(-0.1)}, r"record 7 has values outside \[0, 1\]"),
        ({"y": lambda a: a["y"] + 5}, r"no record has the label 0\. Number the classes 0, 1"),
        ({"y": lambda a: a["y"] - 1}, r"label"),
        ({"y": lambda a: a["y"] * 0}, r"one class|two classes|every record has the label"),
        ({"y": lambda a: a["y"][:50]}, r"120|50"),
        ({"x": lambda a: a["x"][:0], "y": lambda a: a["y"][:0]}, r"no inputs|no records|empty"),
        ({"x": lambda a: a["x"].astype(object)}, r"Python objects, which are never read"),
        ({"x": lambda a: a["x"].astype("U8")}, r"x"),
        ({"y": lambda a: a["y"] + 0.5}, r"label|whole|integer"),
    ],
)
def test_arrays_that_cannot_be_used(refused, tmp_path, changes, line):
    saved(tmp_path / "mine.npz", **changes)
    said = refused(data={"kind": "npz", "path": str(tmp_path / "mine.npz"), "sites": 2})
    assert said.startswith("consilium: data") and re.search(line, said), said


def test_a_label_outside_the_named_classes(refused, tmp_path):
    saved(tmp_path / "mine.npz", y=lambda a: np.where(a["y"], 7, 0))
    said = refused(data={"kind": "npz", "path": str(tmp_path / "mine.npz"), "classes": ["well", "ill"]})
    assert "a label outside 0..1 (such as 7)" in said and "mine.npz" in said


def test_a_test_set_of_one_class(refused, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.random((120, 6), dtype=np.float32), "y": np.arange(120) % 2}
    np.savez(tmp_path / "mine.npz", **one_class_test(arrays))
    said = refused(data={"kind": "npz", "path": str(tmp_path / "mine.npz")})
    assert "the test set holds one class only" in said


def test_a_site_without_data(refused, tmp_path):
    saved(tmp_path / "mine.npz", n=12)
    said = refused(data={"kind": "npz", "path": str(tmp_path / "mine.npz"), "sites": 12})
    assert re.search(r"site-\d+ has no|12 sites|units", said), said


@pytest.mark.parametrize("damage", ["cut", "noise", "text", "empty", "pickle"])
def test_a_corrupt_npz(refused, tmp_path, damage):
    path = tmp_path / "mine.npz"
    saved(path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "noise": whole[:200] + bytes(300) + whole[500:],
            "text": b"x,y\n1,2\n",
            "empty": b"",
            "pickle": b"\x80\x04\x95\x0b\x00\x00\x00",
        }[damage]
    )
    said = refused(data={"kind": "npz", "path": str(path)})
    assert "mine.npz" in said and "npz" in said


# ---- the model

MODELS = """
import torch
from torch import nn

def fits():
    return nn.Linear(30, 2)

def three():
    return nn.Linear(30, 3)

def narrow():
    return nn.Linear(7, 2)

def raises():
    raise KeyError("weights")

def a_list():
    return [nn.Linear(30, 2)]

class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(30, 2)

    def forward(self, x):
        return self.layer(x), x

class Broken(Tuple):
    def forward(self, x):
        return self.later(x)

class AlgorithmState(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.kept = nn.Linear(30, 2), (i for i in range(3))

    def forward(self, x):
        return self.layer(x)

class Renamed(AlgorithmState):
    def __deepcopy__(self, memo):
        raise SystemExit("no copies")

def leaves():
    raise SystemExit("gone")

def old_weight_norm():
    import warnings
    warnings.simplefilter("ignore")
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(30, 2)))

number = 3
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("users_models:fits", ""),
        (
            "users_models:three",
            r"model: the model answers \(2, 3\) for 2 records and 2 classes\. It must return one",
        ),
        ("users_models:narrow", r"model: the model cannot read inputs of shape \(30,\): RuntimeError: mat1 and mat2"),
        ("users_models:raises", r"model: the model cannot be built: KeyError: 'weights'"),
        ("users_models:a_list", r"model\.path: users_models:a_list returned a list, not a torch\.nn\.Module"),
        ("users_models:Tuple", r"model: the model answers a tuple, not a tensor of logits"),
        ("users_models:Broken", r"model: the model cannot read inputs .*AttributeError.*later"),
        ("users_models:number", r"model: the model cannot be built: TypeError: 'int' object is not callable"),
        ("users_models:absent", r"model\.path: cannot import 'users_models:absent'"),
        ("no_such_module:Net", r"model\.path: cannot import 'no_such_module:Net': No module named 'no_such_module'"),
        ("users_models", r"model\.path: cannot import 'users_models'"),
        (":", r"model\.path: cannot import ':'"),
        ("wrong_syntax:Net", r"model\.path: cannot import 'wrong_syntax:Net': SyntaxError"),
        ("wrong_import:Net", r"model\.path: cannot import 'wrong_import:Net': ZeroDivisionError: division by zero"),
        ("wrong_exit:Net", r"model\.path: cannot import 'wrong_exit:Net': SystemExit: gone"),
        (".relative:Net", r"model\.path: cannot import '\.relative:Net': TypeError"),
        ("users_models:leaves", r"model: the model cannot be built: SystemExit: gone \(in users_models:leaves\)"),
        ("users_models:AlgorithmState", r"model: the model cannot be copied: TypeError.*generator.*Keep no open files"),
        ("users_models:Renamed", r"model: the model cannot be copied: SystemExit: no copies"),
        ("users_models:old_weight_norm", r"model: 0\.weight is computed outside of forward and cannot be copied"),
    ],
)
def test_a_users_module(refused, consilium_cli, as_toml, tmp_path, path, line):
    (tmp_path / "users_models.py").write_text(MODELS)
    (tmp_path / "wrong_syntax.py").write_text("def Net(:\n")
    (tmp_path / "wrong_import.py").write_text("1 / 0\n")
    (tmp_path / "wrong_exit.py").write_text("import sys\nsys.path.clear()\nsys.exit('gone')\n")
    env, model = {"PYTHONPATH": str(tmp_path)}, {"kind": "module", "path": path, "allow-code": True}
    if line:
        said = refused(model=model, env=env)
        assert re.search(line, said), said
        assert "defect" not in said
    else:
        (tmp_path / "study.toml").write_text(as_toml(SMALL | {"model": model}))
        assert consilium_cli("run", "study.toml", cwd=tmp_path, env=env).code == 0


def test_no_code_runs_without_leave(refused, tmp_path):
    (tmp_path / "users_models.py").write_text("raise SystemExit('user code ran')")
    said = refused(model={"kind": "module", "path": "users_models:fits"}, env={"PYTHONPATH": str(tmp_path)})
    assert "would run code that is not Consilium's. Set model.allow-code = true if you trust it" in said
    said = refused(
        model={"kind": "module", "path": "users_models:fits", "allow-code": True}, env={"PYTHONPATH": str(tmp_path)}
    )
    assert "user code ran" in said


# ---- the folder


def test_an_out_that_cannot_be_written(consilium_cli, as_toml, tmp_path):
    (tmp_path / "study.toml").write_text(as_toml(SMALL))
    (tmp_path / "file").write_text("")
    for out in ("file", "/proc/none", "file/below"):
        done = consilium_cli("run", "study.toml", "--out", out, cwd=tmp_path)
        assert done.code == 2 and len(done.err.strip().splitlines()) == 1, done.err
        assert f"cannot make the folder {out}/small" in done.err and "--out" in done.err


@pytest.fixture
def read_only(tmp_path):
    """A folder that nobody may write to, not even root."""
    place = tmp_path / "closed"
    place.mkdir()
    place.chmod(0o555)
    if os.getuid() == 0 and not mounted("-o", "ro,size=64k", place):
        pytest.skip("root may write everywhere, and cannot mount a folder that is read-only here")
    yield place
    if os.getuid() == 0:
        subprocess.run(["umount", str(place)], check=True)


def mounted(*options):
    """Whether a small disk in memory could be mounted."""
    words = ["mount", "-t", "tmpfs", *map(str, options[:-1]), "tmpfs", str(options[-1])]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_an_out_without_rights(consilium_cli, as_toml, tmp_path, read_only):
    (tmp_path / "study.toml").write_text(as_toml(SMALL))
    done = consilium_cli("run", "study.toml", "--out", read_only, cwd=tmp_path)
    assert done.code == 2 and len(done.err.strip().splitlines()) == 1, done.err
    assert re.search(r"cannot make the folder \S*/small/trainings: (Read-only file system|Permission denied)", done.err)


def test_files_may_not_grow(consilium_cli, as_toml, tmp_path):
    """A file limit stands for a full disk: what was written before stays, and a later run ends what is missing."""
    (tmp_path / "study.toml").write_text(as_toml(SMALL | {"model": {"kind": "mlp", "hidden": 64}}))
    done = consilium_cli("run", "study.toml", "--json", cwd=tmp_path, most_bytes=6000)
    assert done.code == 3 and "Traceback" not in done.err
    assert "Free disk space and run again" in done.err
    assert json.loads(done.out)
    done = consilium_cli("run", "study.toml", "--json", cwd=tmp_path)
    assert done.code == 0 and done.json["failed"] == {}
    assert not list((tmp_path / "out").rglob("*.draft"))


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mounted("-o", "size=64k", place):
        pytest.skip("cannot mount a small disk here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(consilium_cli, as_toml, tmp_path, full_disk):
    (tmp_path / "study.toml").write_text(as_toml(SMALL | {"seeds": list(range(6))}))
    done = consilium_cli("run", "study.toml", "--out", full_disk, "--json", cwd=tmp_path)
    assert done.code == 3 and "Traceback" not in done.err, done.err
    assert "No space left on device" in done.err and "Free disk space" in done.err
    kept = {p: p.read_bytes() for p in full_disk.rglob("evidence.json") if '"status": "ok"' in p.read_text()}
    trained = len([p for p in full_disk.rglob("training.json") if '"status": "ok"' in p.read_text()])
    assert trained
    subprocess.run(["mount", "-o", "remount,size=16m", str(full_disk)], check=True)
    done = consilium_cli("run", "study.toml", "--out", full_disk, "--json", cwd=tmp_path)
    assert done.code == 0 and done.json["reused"] >= trained
    assert kept == {p: p.read_bytes() for p in kept}


# ---- the other commands


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("show", "pdg"), "unknown"),
        (("list", "attack/evasin"), "there is no room 'attack/evasin'"),
        (("report", "nowhere"), "nowhere is not a study's folder"),
        (("report", "/dev/null"), "is not a study's folder"),
    ],
)
def test_what_is_not_there(consilium_cli, words, line):
    for more in ((), ("--json",)):
        done = consilium_cli(*words, *more)
        assert done.code == 2 and len(done.err.strip().splitlines()) == 1 and line in done.err, done.err
        assert (json.loads(done.out)["exit_code"] == 2) if more else done.out == ""


def test_a_reader_that_goes_away(consilium_cli):
    """``consilium list | head -1`` ends in silence."""
    python = "import sys; sys.argv = ['consilium', 'list', '--json']; from consilium.cli.commands import main; main()"
    shell = f'{shutil.which("python")} -c "{python}" | head -c 10'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=600, check=False)
    assert done.stderr == "" and len(done.stdout) == 10
