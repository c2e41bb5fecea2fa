"""No test depends on the clock: a limit on a wait only ends a hang, so it is long, however busy the machine is."""

import re

import pytest

import house

LEAST = 300
"""Seconds."""


def short_limits(text):
    return [limit for limit in re.findall(r"\btimeout=([0-9.]+)\b", text) if float(limit) < LEAST]


def test_limits_are_long():
    files = sorted((house.ROOT / "tests").rglob("*.py"))
    short = {str(path): limits for path in files if (limits := short_limits(path.read_text(encoding="utf-8")))}
    assert len(files) > 100 and short == {}


@pytest.mark.parametrize(("text", "limits"), [("run(timeout" + "=60)", ["60"]), ("run(timeout=600)", [])])
def test_a_short_one_is_noticed(text, limits):
    assert short_limits(text) == limits
