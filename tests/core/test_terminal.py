"""Text of others reaches a terminal as text."""

import io
import logging

import pytest

from consilium.core.terminal import LineFormatter, log_lines, one_line, steady_streams, visible

PAYLOADS = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "a\x00b",
    "a\x7f",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066x",
    "\udcff",
    "\rx",
    "\u2028",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_terminal_is_not_steered(payload):
    for shown in (visible(payload), one_line(payload)):
        assert shown.isprintable() and shown.isascii() and "\\" in shown


def test_text_is_left_alone():
    text = "ε = 3,\tÄpfel, 漢字, 👍\nnext"
    assert visible(text) == text and one_line(text) == text.replace("\n", "\\n")


def test_a_logged_message_is_one_line():
    record = logging.LogRecord("x", 20, "f", 1, "site %s\n12:00 all is well", ("\x1b[1m",), None)
    assert LineFormatter("%(message)s").format(record) == "site \\x1b[1m\\n12:00 all is well"
    assert callable(log_lines)


def test_a_stream_without_the_character_gets_a_stand_in(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    steady_streams()
    print("ε ≤ 3 – ü \udcff", flush=True)
    assert raw.getvalue() == b"eps <= 3 - \\xfc \\udcff\n"
