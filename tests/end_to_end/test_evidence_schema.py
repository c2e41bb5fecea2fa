"""What a small study writes has every field that version 1 of the schema wrote: of the same type, the same digests.

``evidence_added.json`` has those that came with calibration, mediators and thresholds, described alike.
``evidence_v1.json`` was made by the code of schema version 1 with :func:`described`: keys, types, digests and texts, no
figures, because these differ between machines.  Fields may be added to evidence; these files are not made again.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest

from consilium import Study

STUDY = """
name = "schema"
question = "What is written?"
seeds = [0]
threads = 1
data = { kind = "digits", sites = 2, partition = "iid", public = 0.05 }
model = { kind = "mlp", hidden = 16 }
federation = { kind = "fed-avg", rounds = 2, batch = 32, lr = 0.1, target-accuracy = 0.2 }
vary = { privacy = [{ kind = "dp-sgd", epsilon = 8.0, delta = 1e-3 }] }
attacks = ["loss-threshold", { kind = "pgd", radius = 0.05, steps = 2 }, "one-run-audit"]
audit = { canaries = 40 }
corruptions = [{ kind = "label-flip", sites = 1 }]
accept = [
    { measure = "accuracy", at-least = 0.0 },
    { measure = "robust_accuracy", attack = "pgd", arm = { privacy = "dp-sgd" }, at-least = 0.0 },
]
"""
MACHINE = re.compile(
    r"seal|sha256|^code|\.code|^packages|^hardware|^engine|^created|^command|checkpoint|rounds\.jsonl|^schema"
)
"""Fields of one machine or one moment: that they are there is all that is compared."""


def described(record, path=""):
    """Path by path: a text as it stands, with # for its numbers; of anything else the type."""
    if isinstance(record, dict):
        return {k: v for name, one in record.items() for k, v in described(one, f"{path}.{name}".lstrip(".")).items()}
    if isinstance(record, list):
        names = [one.get("name") or one.get("site") if isinstance(one, dict) else None for one in record]
        places = [f"{path}[{name or ''}]" for name in names]
        return {k: v for place, one in zip(places, record, strict=True) for k, v in described(one, place).items()}
    if MACHINE.search(path):
        return {path: "<there>"}
    if isinstance(record, str):
        return {path: record if re.fullmatch("[0-9a-f]{16}", record) else re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", record)}
    return {path: f"<{type(record).__name__}>"}


def folder_described(folder):
    """Every record of a study's folder by its place in it; of a log its first line."""
    files = sorted(p for p in folder.rglob("*.json*") if p.name != "engine.json")
    lines = {p.relative_to(folder).as_posix(): p.read_text().splitlines() for p in files}
    return {
        name: described(json.loads(text[0] if name.endswith("jsonl") else "\n".join(text)))
        for name, text in lines.items()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return folder_described(Study.of(tomllib.loads(STUDY)).run(tmp_path_factory.mktemp("out"), quiet=True).folder)


@pytest.mark.parametrize("golden", ["evidence_v1.json", "evidence_added.json"])
def test_everything_that_was_written_is_there_and_the_same(written, golden):
    known = json.loads(Path(__file__).with_name(golden).read_text(encoding="utf-8"))
    assert known.keys() <= written.keys()
    wrong = {
        f"{name}: {path}": (wanted, written[name].get(path, "gone"))
        for name, fields in known.items()
        for path, wanted in fields.items()
        if written[name].get(path, "gone") != wanted
    }
    assert not wrong


def test_keys_stand_in_the_order_in_which_version_1_wrote_them(written):
    known = json.loads(Path(__file__).with_name("evidence_v1.json").read_text(encoding="utf-8"))
    for name, fields in known.items():
        assert [path for path in written[name] if path in fields] == list(fields), name
