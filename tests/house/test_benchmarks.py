"""The benchmark runs from end to end, tells a loaded machine from a quiet one, and says what it did not reach.

Nothing here asserts a time.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks/federation.py"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")


@pytest.fixture
def peers(monkeypatch):
    """The modules of benchmarks/_peers."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _peers.lineup
    import _peers.meter
    import _peers.race
    import _peers.tables

    return _peers


def run(folder, *words):
    asked = [sys.executable, str(PROGRAM), "--quick", "--data", "planted", "--log", str(folder / "log"), *words]
    return subprocess.run(asked, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_it_runs_and_writes_what_it_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- written by ./scripts/bench: begin -->old<!-- written by ./scripts/bench: end -->\nafter\n"
    )
    words = ["--jobs", "logistic", "--engines", "Consilium loop", "Consilium pool", "--json"]
    done = run(tmp_path, *words, str(tmp_path / "out.json"), "--markdown", str(page))
    assert done.returncode == 0, done.stderr[-2000:] + (tmp_path / "log").read_text()[-2000:]
    told = json.loads((tmp_path / "out.json").read_text())
    results = {r["entrant"]["label"]: r for r in told["results"]["logistic"]}
    assert set(results) == {"Consilium loop", "Consilium pool"}
    assert all(len(r["blocks"]) >= 2 and r["seconds"] > 0 and r["memory"] > 0 for r in results.values())
    assert results["Consilium loop"]["accuracy"] == results["Consilium pool"]["accuracy"] > 0.3
    assert told["facts"]["cores"] >= 1
    assert told["limits"]["operations"]["logistic"] == pytest.approx(2 * 2 * 784 * 10 * 64 * 4 / 1e9)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "**too few**" in text  # two blocks are not five


def test_an_engine_that_fails_is_told_and_the_others_go_on(peers, tmp_path):
    job = peers.race.Job("logistic", rounds=1, sites=2, records=20, cohort=2, data="planted", tested=50)
    wrong = peers.race.Entrant("wrong", "loop", {"layout": "upside-down", "nonsense": "1"})
    right = peers.race.Entrant("right", "loop")
    said = []
    results = peers.race.race([(wrong, job), (right, job)], 1, 0.05, tmp_path / "log", said.append)
    assert "nonsense" in results[0].failed
    assert not results[1].failed
    assert results[1].blocks
    assert any("wrong" in line and "nonsense" in line for line in said)


def test_what_others_use_is_foreign(peers):
    reading = peers.meter.Reading
    cores = peers.meter.os.cpu_count()
    before, after = reading(0.0, 10.0, 3.0), reading(2.0, 10.0 + cores, 3.0 + 0.5 * cores)
    assert after.foreign(before) == pytest.approx(0.25)
    assert reading(2.0, 11.0, 4.5).foreign(before) == 0.0  # clocks tick apart


def made(peers, label, counts, *blocks):
    entrant = peers.race.Entrant(label, "plain" if counts == "plain" else "loop", {}, counts)
    result = peers.race.Result(entrant, peers.race.Job("mlp", rounds=1))
    result.blocks = [peers.race.Block(turn, seconds, 3, foreign) for turn, (seconds, foreign) in enumerate(blocks)]
    return result


def test_a_loaded_block_does_not_count(peers):
    result = made(peers, "a", "plain", (1.0, 0.05), (9.0, 0.5), (2.0, 0.1), (3.0, 0.0))
    assert result.clean == [1.0, 2.0, 3.0]
    assert result.seconds == 2.0
    assert made(peers, "b", "plain", (9.0, 0.5)).seconds == 9.0  # nothing better; the table marks it


@pytest.mark.parametrize(("seconds", "verdict"), [(0.24, "**yes**"), (0.26, "**no**")])
def test_a_bar_is_reached_or_not(peers, seconds, verdict):
    base = made(peers, "loop", "plain", *[(1.0, 0.0)] * 5)
    own = made(peers, "ours", "own fp32", *[(seconds, 0.0)] * 5)
    row = next(line for line in peers.tables.bars_table({"mlp": [base, own]}) if line.startswith("| mlp"))
    assert verdict in row
    assert "not run" in row  # Flower and pfl
    assert "too few" not in row


def test_few_clean_blocks_are_said(peers):
    base = made(peers, "loop", "plain", *[(1.0, 0.0)] * 4, (1.0, 0.3))
    own = made(peers, "ours", "own fp32", *[(0.1, 0.0)] * 5)
    row = next(line for line in peers.tables.bars_table({"mlp": [base, own]}) if line.startswith("| mlp"))
    assert "too few clean blocks" in row


def test_engines_that_learn_differently_are_named(peers):
    one, two = made(peers, "one", "plain"), made(peers, "two", "own fp32")
    one.accuracy, two.accuracy = 0.80, 0.82
    assert "**not within 1 point**: one lowest, two highest" in "\n".join(
        peers.tables.accuracy_lines({"mlp": [one, two]})
    )
    two.accuracy = 0.805
    assert "within 1 point." in "\n".join(peers.tables.accuracy_lines({"mlp": [one, two]}))


def test_the_memory_of_a_round_is_measured_and_every_site_is_merged():
    words = ["--sites", "2", "5", "--parameters", "1000"]
    for more in ([], ["--kept"]):
        asked = [sys.executable, str(ROOT / "benchmarks/merge_memory.py"), *words, *more]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
        assert rows[2:] == ["2", "5"]
