"""200 mutated data files (tables, npz, pictures): trained on, or refused in one short line; no traceback, no hang."""

import csv
import io
import os
import random
import shutil

import numpy as np
import pytest

from consilium.api.study import Study
from consilium.core.errors import ConsiliumError

ROWS = 48
PROTECTION = [{"kind": "dp-sgd", "noise-multiplier": 1.1, "delta": 1e-3, "clip": 1.0, "batch": 4}]
CELLS = [
    *(
        "",
        " ",
        "?",
        "NA",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-0",
        "0x1F",
        "1_000",
        "1,5",
        "1.234,5",
        "45,000",
        "<5",
        "23%",
    ),
    *("true", "None", "#REF!", "=1+1", "\u202e7", "\u0663", "\ufeff", "\x1b[2J", "é" * 400, "1" * 400, "2024-01-01"),
    *('"', '""', "a\nb", "a;b", "\t", "\0", "null", "-1", "1e-320", "99999999999999999999", "12.1±0.1", "½", "0b1"),
]


def outcome(data, folder, within):
    """The word "run", or the line of the refusal; anything else is raised."""
    table = {
        "name": "mutated",
        "threads": 1,
        "data": {"sites": 2, **data},
        "model": "logistic",
        "federation": {"kind": "fed-avg", "rounds": 1},
        "vary": {"privacy": PROTECTION},
        "attacks": [{"kind": "loss-threshold"}],
    }
    with within(60):
        try:
            results = Study.of(table).run(folder / "out", quiet=True)
        except ConsiliumError as error:
            line = str(error)
            assert "\n" not in line and len(line) < 1000, line
            assert "defect of Consilium" not in line, line
            return line
    assert not results.outcome.failed, results.outcome.failed
    return "run"


def table_bytes(cells=(), separator=","):
    rows = [["age", "sex", "bp", "target", "patient"]]
    for n in range(ROWS):
        sick = n % 2
        rows.append([f"{40 + sick * 15 + n % 7}", "fm"[n % 3 == 0], f"{100 + (n * 7) % 60}.5", str(sick), f"p{n // 2}"])
    for row, column, word in cells:
        rows[row % len(rows)][column % 5] = word
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    return text.getvalue().encode()


def damaged(rng, content):
    """Bytes cut, doubled, overwritten or put in between."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(max(1, len(content)))
        end = min(len(content), start + rng.randint(1, 40))
        middle = rng.choice([b"", content[start:end] * 2, rng.randbytes(end - start), b"\xff\xfe", b'"'])
        content = content[:start] + middle + content[end:]
    return content


def mutated_table(rng, folder):
    """A table whose cells, or bytes, are odd."""
    separator = rng.choice([",", ",", ",", ";", "\t", "|"])
    if rng.random() < 0.7:
        words = [
            (rng.randrange(ROWS + 1), rng.randrange(5), rng.choice(CELLS)) for _ in range(rng.choice([1, 1, 2, 30]))
        ]
        content = table_bytes(words, separator)
    else:
        content = damaged(rng, table_bytes((), separator))
    content = rng.choice([content, content, content, b"\xef\xbb\xbf" + content, content.replace(b"\r\n", b"\r")])
    path = folder / "mine.csv"
    path.write_bytes(content)
    ranges = [["age", 0, 120], ["bp", 50, 250]]
    return {
        "kind": "table",
        "path": str(path),
        "separator": separator if rng.random() < 0.8 else ",",
        "label": "target",
        "patient": "patient",
        "ranges": ranges,
        "categories": [["sex", "f", "m"], ["target", "0", "1"]],
    }


ARRAYS = {
    "float16": lambda a: a.astype(np.float16),
    "complex": lambda a: a.astype(complex),
    "text": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S"),
    "object": lambda a: a.astype(object),
    "nan": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 3, np.nan, a.astype(float)),
    "infinite": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 5, np.inf, a.astype(float)),
    "negative": lambda a: a.astype(int) - 1,
    "huge": lambda a: a.astype(np.int64) * 2**60,
    "unsigned": lambda a: a.astype(np.uint64) + np.uint64(2**63),
    "short": lambda a: a[:-1],
    "empty": lambda a: a[:0],
    "scalar": lambda a: a.reshape(-1)[0],
    "column": lambda a: a[:, None],
    "deep": lambda a: a.reshape(len(a), *(1,) * 8, -1),
    "turned": lambda a: a.T,
    "constant": lambda a: a * 0,
    "record": lambda a: np.zeros(len(a), dtype=[("a", "f4"), ("b", "i4")]),
    "dates": lambda a: np.zeros(len(a), dtype="datetime64[D]"),
    "fortran": np.asfortranarray,
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "halves": lambda a: a + 0.5,
    "booleans": lambda a: a.astype(bool),
}


def mutated_npz(rng, folder):
    """An npz whose arrays, names or bytes are odd."""
    draw = np.random.default_rng(rng.randrange(2**31))
    y = np.arange(ROWS) % 2
    x = (draw.integers(0, 120, (ROWS, 4, 4)) + 100 * y[:, None, None]).astype(np.uint8)
    arrays = {"x": x, "y": y, "units": np.arange(ROWS) // 2}
    path = folder / "mine.npz"
    if (kind := rng.random()) < 0.7:
        name = rng.choice(list(arrays))
        arrays[name] = ARRAYS[rng.choice(list(ARRAYS))](arrays[name])
    elif kind < 0.8:
        arrays[rng.choice(["X", "labels", "train_images", "é", "keys", "split"])] = arrays.pop(rng.choice(list(arrays)))
    np.savez(path, **arrays)
    if kind >= 0.8:
        path.write_bytes(damaged(rng, path.read_bytes()))
    return {"kind": "npz", "path": str(path), "classes": ["well", "ill"]}


def mutated_pictures(rng, folder):
    """A folder of pictures in which files are damaged, of other kinds, or elsewhere."""
    from PIL import Image

    root = folder / "pictures"
    for n in range(ROWS):
        path = root / ("ill" if n % 2 else "well") / f"{n:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(n).integers(0, 120, (8, 8)) + 100 * (n % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    for _ in range(rng.choice([1, 1, 2, 12])):
        path = rng.choice(sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()))
        _mutate_picture(rng, root, path)
    return {"kind": "image-folder", "path": str(root), "size": 8}


def _mutate_picture(rng, root, path):
    from PIL import Image

    kind = rng.randrange(15)
    if kind == 0:
        path.write_bytes(damaged(rng, path.read_bytes()))
    elif kind == 1:
        path.write_bytes(b"")
    elif kind == 2:
        path.rename(path.with_suffix(rng.choice([".jpg", ".txt", ".PNG", ".dcm", ".gif", ""])))
    elif kind == 3:
        Image.new(rng.choice(["RGB", "RGBA", "CMYK", "I", "F", "1", "LA"]), (8, 8)).save(
            path.with_suffix(".tif"), format="TIFF"
        )
    elif kind == 4:
        Image.new("L", (rng.choice([1, 3, 500]), 8)).save(path)
    elif kind == 5:
        path.unlink()
        path.symlink_to(rng.choice(["/dev/zero", "missing.png", "..", "/etc/hostname", path.name]))
    elif kind == 6:
        deeper = root / "ill" / rng.choice(["more", "a b", ".hidden", "é"])
        deeper.mkdir(exist_ok=True)
        shutil.copy(path, deeper / path.name)
    elif kind == 7:
        other = root / rng.choice(["__MACOSX", "third", ".test", "train", "Ill", "well "])
        other.mkdir(exist_ok=True)
        shutil.copy(path, other / path.name)
    elif kind == 8:
        frames = [Image.new("L", (8, 8), shade) for shade in (0, 200)]
        frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])
    elif kind == 9:
        path.chmod(0)
    elif kind == 10:
        path.rename(path.with_name(rng.choice(["._x.png", "a\nb.png", "é" * 60 + ".png", " .png", "-rf.png"])))
    elif kind == 11:
        shutil.copy(path, path.with_name("copy of " + path.name))
    elif kind == 12:
        path.unlink()
        os.mkfifo(path)
    elif kind == 13:
        path.rename(root / path.name)
    else:
        path.unlink()
        path.mkdir()


KINDS = {"table": (mutated_table, 80), "npz": (mutated_npz, 60), "pictures": (mutated_pictures, 60)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_200_mutated_files_are_trained_on_or_refused(kind, tmp_path, within):
    runs, count = check(kind, tmp_path, within, range(KINDS[kind][1]))
    assert 0 < runs < count


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutated_files_are_trained_on_or_refused(kind, tmp_path, within):
    runs, count = check(kind, tmp_path, within, range(1000, 1010))
    assert runs < count


def check(kind, tmp_path, within, seeds):
    outcomes = {}
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            outcomes[seed] = outcome(KINDS[kind][0](random.Random(f"{kind} {seed}"), folder), folder, within)
        except BaseException as error:
            error.add_note(f"{kind} {seed}")
            raise
        shutil.rmtree(folder, ignore_errors=True)
    print(*(f"{seed}: {line}" for seed, line in outcomes.items()), sep="\n")
    return sum(line == "run" for line in outcomes.values()), len(outcomes)


def test_what_is_sound_runs(tmp_path, within):
    """Without mutations each kind of file is trained on: so a refusal is of the mutation."""
    data = mutated_table(random.Random(0), tmp_path)
    (tmp_path / "mine.csv").write_bytes(table_bytes())
    assert outcome(data | {"separator": ","}, tmp_path, within) == "run"
