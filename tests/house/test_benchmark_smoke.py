"""Every benchmark still runs from end to end, in this process and at its smallest.  Nothing here asserts a time."""

import importlib
import io
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from consilium.core.random import Stream, scoped
from consilium.core.records import Records

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")


@pytest.fixture
def benchmark(monkeypatch, capsys):
    """``benchmark(name)``: the module; ``benchmark(name, *words)`` runs it with these words, and is what it printed."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    threads = torch.get_num_threads()

    def run(name, *words):
        module = importlib.import_module(name)
        if not words:
            return module
        monkeypatch.setattr(sys, "argv", [name, *words])
        module.main()
        return capsys.readouterr().out

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def attacked(benchmark, monkeypatch):
    """A linear model and random pictures stand in for the trained network and Fashion-MNIST."""

    def network(_weights):
        with scoped(Stream(0)):
            return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()

    def records(n):
        x = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return Records.of(x, network(None)(x).argmax(1))

    for name in ("evasion", "minimum_norm", "black_box"):
        monkeypatch.setattr(benchmark(name), "attacked_model", network)
        monkeypatch.setattr(benchmark(name), "attacked_records", records)


def rows(page):
    """The first cells of all lines of tables."""
    return [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")]


@pytest.fixture
def alone(benchmark, monkeypatch):
    """No peer takes part: some take seconds to import."""
    for name in ("evasion", "minimum_norm"):
        monkeypatch.setattr(benchmark(name), "installed", lambda attacker: attacker.module == "consilium")


def test_evasion(benchmark, attacked, alone):
    page = benchmark("evasion", "--records", "6", "--turns", "1", "--only", "pgd")
    assert "Consilium 0.1.0" in rows(page)
    assert "100.00%" in page
    assert "Not installed: torchattacks, foolbox, adv-lib." in page


def test_minimum_norm(benchmark, attacked, alone, tmp_path):
    words = ["--records", "4", "--turns", "1", "--only", "deepfool", "--markdown", str(tmp_path / "page.md")]
    page = benchmark("minimum_norm", *words)
    assert {"DeepFool, 50 steps", "Consilium", "Consilium, no halvings"} <= set(rows(page))
    assert "| Consilium |" in (tmp_path / "page.md").read_text()


def test_lengths_are_of_what_is_fooled(benchmark):
    module = benchmark("minimum_norm")
    model = lambda x: torch.stack([x[:, 0], 1 - x[:, 0]], 1)  # noqa: E731
    records = Records.of(torch.tensor([[0.6, 0.0], [0.9, 0.0]]), torch.tensor([0, 0]))
    lengths = module.fooled_lengths(model, records, torch.tensor([[0.3, 0.4], [0.8, 0.0]]))
    assert lengths.tolist() == pytest.approx([0.5, float("inf")])


def test_black_box(benchmark, attacked):
    page = benchmark("black_box", "--records", "2", "--only", "Square linf")
    assert rows(page)[:3] == ["attack", "---", "Consilium"]


def test_aggregators(benchmark, monkeypatch):
    """Every rule merges; the table has a line for each."""
    module = benchmark("aggregators")
    table = module.rows(30, 40)
    for rule in module.CASES:
        assert module.own(rule, table, 30 // module.SHARE)() is not None
    monkeypatch.setattr(module, "measured", lambda *_: (1.0, 2.0))
    assert {"median", "krum"} <= set(rows(benchmark("aggregators", "--rules", "median", "krum", "--repeats", "1")))


def test_adversarial_training(benchmark, monkeypatch):
    module = benchmark("adversarial_training")
    tiny = module.Task("tiny", lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10)), (1, 8, 8), 4)
    monkeypatch.setattr(module, "MODELS", {"tiny": tiny})
    page = benchmark("adversarial_training", "--turns", "1")
    assert set(module.VARIANTS) <= set(rows(page))


def test_dp_sgd(benchmark, monkeypatch):
    """The methods of this package alone: Opacus takes seconds to import."""
    module = benchmark("dp_sgd")
    tiny = module.Task("tiny", lambda: nn.Linear(6, 10), (6,), 4)
    monkeypatch.setattr(module, "LAYERS", {"tiny": tiny})
    monkeypatch.setattr(module, "_many", lambda step: 1)
    assert rows("\n".join(module.table([tiny], 1)))[-1].startswith("tiny")


@pytest.mark.slow  # it starts processes
def test_shadows(benchmark):
    page = benchmark("shadows", "--shadows", "2", "--rounds", "1")
    assert "ratio" in page


def test_executors(benchmark, capsys):
    module = benchmark("executors")
    module.case(module.study(1, 1), "serial", 1)
    assert '"trained": 1' in capsys.readouterr().out


@pytest.mark.slow  # it starts processes
def test_precision(benchmark, monkeypatch, tmp_path):
    module = benchmark("precision")
    job = {"data": {"kind": "digits", "sites": 2}, "model": "logistic", "federation": {"kind": "fed-avg", "lr": 0.1}}
    monkeypatch.setattr(module, "JOBS", {"one": job})
    assert "one" in rows(benchmark("precision", "--seeds", "1", "--rounds", "1", "--out", str(tmp_path)))


def test_many_sites(benchmark, monkeypatch, capsys):
    module = benchmark("many_sites")
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n" * 9))
    table = module.study(5, "fed-avg", "loop", 3, 2)
    module.case({**table, "data": {"kind": "digits", "sites": 5}})
    assert '"peak"' in capsys.readouterr().out.splitlines()[-1]
