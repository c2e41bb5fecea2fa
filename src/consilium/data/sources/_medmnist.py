"""Finding and opening a MedMNIST file.

Looked for in this order: the path that is given; the folder CONSILIUM_DATA; ``~/.medmnist``; else it is fetched.
A file that is *found* must bear a digest that is known; a file that is *given* is taken as it is, and the notes say
when it is not the official one.
"""

from __future__ import annotations

from pathlib import Path

from consilium.core.errors import Refused
from consilium.data.checks.verify import check_labels
from consilium.data.dataset import SPLITS, Dataset
from consilium.data.files.archive import read_npz
from consilium.data.files.download import download
from consilium.data.files.layout import NAMES, ArrayDataset, laid_out
from consilium.data.files.origin import data_folder, digest_of_file, expanded, given_file, stated

from ._medmnist_facts import FACTS, REBUILT, Facts

__all__ = ["URL", "open_medmnist"]

URL = "https://zenodo.org/records/10519652/files/{file}?download=1"


def open_medmnist(title: str, name: str, size: int, path: str | None, max_bytes: int) -> Dataset:
    """The set ``name`` at ``size`` pixels, called ``title`` in the evidence."""
    facts = FACTS[name]
    stem = name if size == 28 else f"{name}_{size}"
    file = given_file(path) if path is not None else _file_of(name, stem, facts.md5[size])
    arrays = laid_out(read_npz(file, NAMES, max_bytes), str(file))
    check_labels(arrays.records.y, len(facts.classes), str(file))
    _check_shape(arrays, size, file)
    return Dataset(
        name=title,
        records=arrays.records,
        split=arrays.split,
        keys=arrays.keys,
        classes=facts.classes,
        provenance=stated([file]),
        bundled=False,
        notes=(f"MedMNIST v2, {facts.licence}", *facts.notes, *_standing(name, file, facts, facts.md5[size], arrays)),
        key_names=arrays.key_names,
        unit_names=arrays.unit_names,
        inputs=arrays.inputs,
    )


def _file_of(name: str, stem: str, md5: str) -> Path:
    folder = data_folder()
    home = expanded("~/.medmnist") / f"{stem}.npz"
    candidates = [] if folder is None else [folder / f"{stem}.npz", folder / f"{stem}_rebuilt.npz"]
    for file in (*candidates, home):
        if file.is_file():
            _check_known(name, file, md5)
            return file
    download(URL.format(file=home.name), home, md5)
    return home


def _check_known(name: str, file: Path, md5: str) -> None:
    if digest_of_file(file, "md5") != md5 and digest_of_file(file) != REBUILT.get(name):
        raise Refused(
            f"{file} is not the published {name}: its md5 is not {md5}",
            remedy="remove or replace it; or, if you trust it, name it by path",
            where=str(file),
        )


def _check_shape(arrays: ArrayDataset, size: int, file: Path) -> None:
    if arrays.records.x.shape[2:] != (size, size):
        raise Refused(
            f"images have shape {tuple(arrays.records.x.shape[1:])}; the study sets size = {size}",
            remedy="name the file of that size, or set size",
            where=str(file),
        )


def _standing(name: str, file: Path, facts: Facts, md5: str, arrays: ArrayDataset) -> tuple[str, ...]:
    """How the file differs from the published one."""
    if digest_of_file(file, "md5") == md5:
        return ("the official file: its md5 is the published one",)
    if digest_of_file(file) == REBUILT.get(name):
        return ("rebuilt from public copies: same images and splits, train order is not official, md5 cannot match",)
    counts = [0] * len(SPLITS) if arrays.split is None else [int((arrays.split == k).sum()) for k in range(len(SPLITS))]
    same = "its counts are the published ones" if tuple(counts) == facts.counts else f"its counts are {counts}"
    return (f"not the official file (md5 differs), {same}: do not set its figures beside published ones",)
