"""Looking something up is quick: help and lists import no torch, and int8 imports no compiler."""

import importlib.util
import subprocess
import sys

import pytest

HEAVY = ("torch", "sklearn", "scipy", "plotly", "pandas", "dp_accounting")


COMPILER = ("torch._dynamo", "torch._inductor")
INT8 = """
import torch
from consilium.defend.model._fx import quantise
quantise(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), [torch.rand(4, 3)])
"""
PLAIN = """
name = "s"
data = { kind = "digits", sites = 2 }
model = "mlp"
federation = { kind = "fed-avg", rounds = 1 }
"""
PRIVATE = """
vary.privacy = [{ kind = "dp-sgd", noise-multiplier = 2.0, delta = 1e-3 }]
vary.compression = ["static-int8"]
"""


def loaded(code, heavy=HEAVY):
    """The heavy packages that are in memory after ``code``, in a fresh interpreter."""
    tail = f"import sys; print('loaded:', *[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"], capture_output=True, text=True, timeout=600, check=True
    )
    return done.stdout.rsplit("loaded:", 1)[1].split()


def command(*words):
    return (
        f"import sys; sys.argv = ['consilium', *{words!r}]\n"
        "from consilium.cli.commands import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )


@pytest.mark.parametrize("module", ["consilium", "consilium.core.catalogue", "consilium.core.errors"])
def test_an_import_is_light(module):
    assert loaded(f"import {module}") == []


def test_the_catalogue_is_read_without_importing_entries():
    assert loaded("from consilium.core.catalogue import cards; cards()") == []


def test_a_heavy_import_is_noticed():
    assert loaded("import consilium.core.records") == ["torch"]


@pytest.mark.skipif(importlib.util.find_spec("consilium.cli") is None, reason="there is no command line yet")
@pytest.mark.parametrize("words", [("--help",), ("list",), ("list", "--json"), ("run", "--help")], ids=" ".join)
def test_a_light_command_imports_nothing_heavy(words):
    assert loaded(command(*words)) == []


@pytest.mark.skipif(
    importlib.util.find_spec("torch.fx.config") is None, reason="this torch traces with the compiler in memory"
)
def test_an_int8_model_is_made_without_the_compiler():
    """Torch symbolises where each node was traced, and imports its compiler for that: seconds for every process."""
    assert loaded(INT8, COMPILER) == []


def test_a_plan_imports_what_it_needs_and_no_more(tmp_path):
    """No algebra system for a loss, no accountant where nothing is claimed, no scikit-learn for a file of digits."""
    study = tmp_path / "study.toml"
    study.write_text(PLAIN)
    unused = ("dp_accounting", "scipy.stats", "sklearn", "pandas", "sympy", *COMPILER)
    assert loaded(command("plan", str(study), "--out", str(tmp_path)), unused) == []
    study.write_text(study.read_text() + PRIVATE)
    assert loaded(command("plan", str(study), "--out", str(tmp_path)), unused) == ["dp_accounting", "scipy.stats"]


def test_the_compiler_is_noticed():
    assert loaded("import torch._inductor", COMPILER) == ["torch._dynamo", "torch._inductor"]
