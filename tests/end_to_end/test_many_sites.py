"""Two thousand tiny sites: killed and resumed it is the same study, and what sites keep stays on disk."""

from __future__ import annotations

import gc
import json
import re
import signal
import time

import numpy as np
import pytest
import torch

from consilium import Study
from consilium.federate.checkpoint import load_checkpoint

SITES = 2000
COHORT = 20
ROUNDS = 12


@pytest.fixture
def tables(tmp_path):
    """A table of made-up records with a planted signal, divided over two thousand sites of 1 to 9 of them."""
    numbers = np.random.default_rng(3)
    x = numbers.random((8000, 6), dtype=np.float32)
    np.savez(tmp_path / "records.npz", x=x, y=(x[:, 0] > 0.5).astype(np.int64))
    return {
        "name": "crowd",
        "threads": 1,
        "data": {
            "kind": "npz",
            "path": str(tmp_path / "records.npz"),
            "classes": ["no", "yes"],
            "sites": SITES,
            "partition": {"kind": "sizes", "minimum": 1, "maximum": 9},
        },
        "model": {"kind": "mlp", "hidden": 4},
        "federation": {
            "kind": "scaffold",
            "rounds": ROUNDS,
            "fraction": COHORT / SITES,
            "batch": 4,
            "lr": 0.1,
            "engine": "loop",
            "assess": "cohort",
            "assess-every": 4,
            "participation": {
                "sampling": "poisson",
                "availability": 0.8,
                "dropout": 0.2,
                "stragglers": 0.3,
                "late-joiners": 0.5,
                "join-round": 6,
                "minimum-cohort": 8,
            },
        },
    }


def rounds(folder):
    return [json.loads(line) for path in folder.rglob("rounds.jsonl") for line in path.read_text().splitlines()]


def everything(folder):
    """Models, checkpoint and states as bytes, and the log without its times."""
    held = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.safetensors")}
    return held | {"log": [{k: v for k, v in r.items() if k != "seconds"} for r in rounds(folder)]}


def test_states_on_disk_are_those_of_the_sites_that_worked_and_none_stay_in_memory(tables, tmp_path):
    done = Study.of(tables).run(tmp_path / "out", quiet=True)
    assert not done.outcome.failed
    worked = {site for r in rounds(done.folder) for site in r["cohort"]}
    assert COHORT < len(worked) < COHORT * ROUNDS
    (states,) = done.folder.rglob("states")
    named = {path.name.split(".")[0] for path in states.iterdir()}
    assert named <= worked and len(named) == len(list(states.iterdir()))  # one file a site
    checkpoint = next(done.folder.rglob("checkpoint.safetensors"))
    assert checkpoint.stat().st_size < 10_000  # nothing in it grows with the sites
    state, held = load_checkpoint(checkpoint)
    assert set(held) == named
    gc.collect()
    size = state.server.params.numel()
    vectors = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.numel() == size]
    assert len(vectors) < 50 < len(named)
    mean = sum(held[s].algorithm.tensors.get("control", torch.zeros(size)) for s in held) / SITES
    torch.testing.assert_close(mean, state.server.memory["control"], atol=1e-6, rtol=1e-4)


def test_the_page_of_many_sites_counts_them_instead_of_listing_them(tables, tmp_path, consilium_cli, as_toml):
    (tmp_path / "study.toml").write_text(as_toml(tables))
    assert consilium_cli("run", "study.toml", "--out", "out", cwd=tmp_path).code == 0
    page = (tmp_path / "out" / "crowd" / "report.html").read_text(encoding="utf-8")
    body = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL)
    assert f"{SITES} sites by number of training records" in body
    assert "Who took part in the 12 rounds" in body and ">absent<" in body and "aborted" in body
    assert len(body) < 200_000 and body.count("site-") < 300


def test_sigkill_in_a_round_changes_nothing(tables, tmp_path, consilium_cli, as_toml):
    (tmp_path / "study.toml").write_text(as_toml(tables))
    words = ("run", "study.toml", "--json", "--out")
    assert consilium_cli(*words, "whole", cwd=tmp_path).code == 0
    wanted = everything(tmp_path / "whole")
    for moment in (2, 7):
        running = consilium_cli.start(*words, "cut", cwd=tmp_path)
        until = time.monotonic() + 300
        while len(rounds(tmp_path / "cut")) < moment and time.monotonic() < until:
            time.sleep(0.001)
        running.send(signal.SIGKILL)
        assert running.wait().code == -signal.SIGKILL
    left = sorted((tmp_path / "cut").rglob("states/*.safetensors"))
    (left[0].parent / "site-0.999.safetensors").write_bytes(b"of a round that never ended")
    assert consilium_cli(*words, "cut", cwd=tmp_path).code == 0
    assert everything(tmp_path / "cut") == wanted
    assert any(r["aborted"] for r in wanted["log"]) and any(r["dropped"] for r in wanted["log"])
