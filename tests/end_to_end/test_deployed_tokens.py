"""A deployment of records that are words, with a named attribute, of which the head of given weights trains.

The sites have files of their own, so this is no rehearsal: with the same records at each site the simulation has the
same model to the last bit.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from consilium import Study

pytestmark = pytest.mark.slow
SITES = ("site-north", "site-south")
WORDS, LENGTH, WIDTH, N = 12, 5, 4, 24
STUDY = """
name = "notes"
threads = 1
data = {{ kind = "npz", path = "{path}", tokens = 12, classes = ["well", "ill"], attributes = ["sex"], {shares} }}
model = {{ kind = "bag-of-embeddings", width = 4, weights = "weights.safetensors", train = "head" }}
federation = {{ kind = "fed-avg", rounds = 2, lr = 0.5, batch = 8 }}
"""
SITE = """
[data]
kind = "npz"
path = "{path}"
tokens = 12
classes = ["well", "ill"]
attributes = ["sex"]
validation = 0.0
non-members = 0.0
test = 0.0
"""
APART = 'sites = 2, partition = "by-key", public = 0.0, validation = 0.0, non-members = 0.0'


def records(seed, n):
    """Ids of words, labels, and the sex of each, which is no input."""
    draws = np.random.default_rng(seed)
    x = draws.integers(1, WORDS, (n, LENGTH))
    return x, (x[:, 0] > WORDS // 2).astype(np.int64), draws.choice(["F", "M"], n)


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """A folder with the weights, all records for the simulation, each site's own, and the server's test set."""
    folder = tmp_path_factory.mktemp("notes")
    parts = {site: records(k, N) for k, site in enumerate(SITES)}
    test = records(7, 20)
    x, y, sex = (np.concatenate(columns) for columns in zip(*parts.values(), strict=True))
    keys = np.repeat([site.removeprefix("site-") for site in SITES], N)
    held_out = {"test_images": test[0], "test_labels": test[1], "test_sex": test[2]}
    np.savez(
        folder / "all.npz",
        train_images=x,
        train_labels=y,
        train_sex=sex,
        train_keys=keys,
        test_keys=keys[:20],
        **held_out,
    )
    other = records(8, 20)  # of the server: nobody trains on them
    np.savez(folder / "public.npz", train_images=other[0], train_labels=other[1], train_sex=other[2], **held_out)
    for site, (ids, labels, sexes) in parts.items():
        np.savez(folder / f"{site}.npz", x=ids, y=labels, sex=sexes)
        (folder / f"{site}.toml").write_text(SITE.format(path=folder / f"{site}.npz"))
    generator = torch.Generator().manual_seed(5)
    shapes = {"embedding.weight": (WORDS, WIDTH), "output.weight": (2, WIDTH), "output.bias": (2,)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(weights, folder / "weights.safetensors")
    (folder / "simulated.toml").write_text(STUDY.format(path=folder / "all.npz", shares=APART))
    (folder / "deployed.toml").write_text(STUDY.format(path=folder / "public.npz", shares="sites = 2, public = 0.0"))
    return folder


@pytest.fixture(scope="module")
def federation(new_federation, notes):
    """The study deployed: each site reads its own file, and takes part in the study of its sign-off sheet alone."""
    federation = new_federation(sites=SITES, cwd=notes)
    federation.serve(notes / "deployed.toml", "--gather", "1000", "--deadline", "1000")
    for site in SITES:
        words = ("sign-off", "deployed.toml", "--site", site, "--records", str(N), "--keys", federation.folder / "keys")
        signed = federation.cli(*words, "--json", cwd=notes)
        assert signed.code == 0, signed.err
        (notes / f"{site}.limits").write_text(f'studies = ["{signed.json["digest"]}"]')
        federation.join(site, "--limits", notes / f"{site}.limits", data=notes / f"{site}.toml")
    assert federation.wait("server") == 0, federation.log("server")
    return federation


def released(out):
    (path,) = out.glob("notes/models/*/model.safetensors")
    return load_file(path)


def test_it_is_the_model_of_the_simulation_to_the_last_bit(federation, notes, tmp_path, monkeypatch):
    monkeypatch.chdir(notes)
    results = Study.read("simulated.toml").run(tmp_path, quiet=True, executor="serial")
    deployed, simulated, start = (
        released(federation.folder / "out"),
        released(tmp_path),
        load_file("weights.safetensors"),
    )
    assert deployed.keys() == simulated.keys()
    assert all(deployed[name].equal(simulated[name]) for name in simulated)
    assert deployed["embedding.weight"].equal(start["embedding.weight"]), "what is frozen is constant"
    assert not deployed["output.weight"].equal(start["output.weight"]), "the head has trained"
    rounds = [
        json.loads(line) for line in next(results.folder.glob("trainings/*/rounds.jsonl")).read_text().splitlines()
    ]
    assert [one["sites"] for one in rounds] == [one["sites"] for one in federation.rounds("notes")]


def test_only_the_head_is_sent_and_no_attribute(federation):
    head = 4 * (2 * WIDTH + 2)
    for site in SITES:
        for path in (federation.folder / site / "state" / "studies").glob("*/answer-*.bin"):
            assert head < path.stat().st_size < head + 1000
            assert b"sex" not in path.read_bytes()
