"""The printed time is that of the process: its start is the system's record, not the moment of the first import."""

import subprocess
import sys
import time

from consilium.cli import process_time

LATE = """
import time
start = time.monotonic()
while time.monotonic() - start < 0.3:
    pass
from consilium.cli.process_time import process_seconds
print(process_seconds())
"""


def test_what_came_before_the_import_counts():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True, timeout=600)
    assert float(done.stdout) >= 0.3 - 0.02  # the system counts in ticks of 10 ms


def test_it_is_a_clock():
    first, before = process_time.process_seconds(), time.monotonic()
    while time.monotonic() - before < 0.05:
        pass
    assert process_time.process_seconds() > first


def test_without_a_record_of_the_system_it_counts_from_the_import(monkeypatch):
    monkeypatch.setattr(process_time.Path, "read_text", lambda *_, **__: "no record")
    monkeypatch.setattr(process_time, "_IMPORTED", time.monotonic() - 100)
    assert 100 <= process_time.process_seconds() < 200
