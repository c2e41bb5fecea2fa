"""Every measure that is written has a sentence that says why it is one to look at."""

import json
import re
from pathlib import Path

import torch

from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.evidence.why import WHY
from consilium.measure.membership import bounds, membership
from consilium.measure.utility import utility

ROOT = Path(__file__).parents[2]
NO_FIGURES = {"epsilon", "delta", "seconds"}
"""Columns of the report, which are no measures of evidence."""


def written():
    """Names in the golden file of a study, and those that code makes measures of by a literal."""
    golden = json.loads((ROOT / "tests/end_to_end/evidence_v1.json").read_text(encoding="utf-8"))
    paths = [path for fields in golden.values() for path in fields]
    yield from (m for path in paths for m in re.findall(r"(?:measures|utility|cost)\[([^\]]+)\]\.name$", path))
    for path in (ROOT / "src").rglob("*.py"):
        yield from re.findall(r'Measure(?:\.undefined)?\(\s*"([^"]+)"', path.read_text(encoding="utf-8"))


def test_every_measure_that_is_written_has_one():
    names = set(written()) - NO_FIGURES
    assert len(names) > 15 and not names - WHY.keys()


def test_so_has_what_measures_make_of_data():
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 3):
        y = torch.arange(60) % classes
        made = utility(torch.randn(60, classes, generator=generator), y, Stream(0))
        assert {m.name for m in made} <= WHY.keys()
    scores, member = torch.randn(400, generator=generator), torch.arange(400) % 2 == 0
    found = membership(scores, member, Stream(0), known=torch.arange(400) < 200)
    claimed = [Measure(m.name, 0.5) for m in found]
    assert {m.name for m in (*found, *bounds(claimed, 1.0, 1e-5))} <= WHY.keys()


def test_each_is_a_sentence():
    assert all(text[0].isupper() and text.endswith(".") and len(text) < 140 for text in WHY.values())
