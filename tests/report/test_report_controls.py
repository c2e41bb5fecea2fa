"""Control characters of a user's texts reach page, table and terminal as escapes, whichever field they stand in."""

import json
import re
import shutil

import pytest
from rich.console import Console

from consilium.core import terminal
from consilium.core.seal import unsealed
from consilium.monitor.screen import Visible
from consilium.report.load.read import read_study
from consilium.report.render.page import write_page
from consilium.report.render.table import terminal_table, write_csv

_KEPT = re.compile(r"(digest|training|model|seal|sealed|scores|scores_sha256|schema|aim|kind|status|unit)$")
"""Fields that name a file or steer the reading: another text there hides the rest."""
PLANTS = ("\x1b[31m", "\x9b31m", "\x07", "\x7f", "\u202e", "\r")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def escaped(plant):
    return plant.encode("unicode_escape").decode()


def planted(value, plant, name=""):
    if isinstance(value, dict):
        return {key: planted(one, plant, key) for key, one in value.items()}
    if isinstance(value, list):
        return [planted(one, plant, name) for one in value]
    return f"{value}{plant}" if isinstance(value, str) and not _KEPT.match(name) else value


def plant_in(folder, plant):
    for path in folder.rglob("*.json"):
        path.write_text(json.dumps(planted(unsealed(json.loads(path.read_text())), plant)))
    for path in folder.rglob("rounds.jsonl"):
        lines = []
        for line in path.read_text().splitlines():
            try:
                lines.append(json.dumps(planted(json.loads(line), plant)))
            except ValueError:
                lines.append(line)
        path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("plant", PLANTS)
def test_no_control_character_of_any_field_is_written(copy, plant):
    for path in copy.rglob("*.json"):  # old evidence: its texts are shown whoever changed them
        record = json.loads(path.read_text())
        for cell in record.get("cells", []) if path.name == "study.json" else ():
            cell.pop("seal", None)
        path.write_text(json.dumps(unsealed(record)))
    plant_in(copy, plant)
    study = read_study(copy)
    assert escaped(plant) in study.name and escaped(plant) in study.evidence[0].arm
    page, table = (path.read_bytes().decode() for path in (write_page(copy, share=False), write_csv(copy)))
    console = Console(width=200)
    with console.capture() as printed:
        console.print(Visible(terminal_table(copy)))
    for text in (page, table.replace("\r\n", "\n"), printed.get()):
        assert plant[0] not in text
        assert escaped(plant) in text


def test_joiners_of_scripts_stay_and_escapes_do_not():
    assert terminal.printable({"a\x1b": ["می\u200cخواهم", "\x00", 3]}) == {"a\\x1b": ["می\u200cخواهم", "\\x00", 3]}
