"""What reaches a terminal or a log: text of users' modules, sites and files neither steers it nor stops the program.

Control characters (C0, DEL, C1), those that turn the direction of writing or are not seen, and halves of characters are
written as escapes.  A standard stream that is closed swallows what it is given; one whose encoding lacks a character
gets a stand-in for it.

Source: ECMA-48 (control functions); Boucher and Anderson 2021, Trojan Source, arXiv 2111.00169 (bidirectional text)
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import re
import sys

__all__ = ["LineFormatter", "log_lines", "one_line", "printable", "steady_streams", "visible"]

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and line feed, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # unseen, or of direction
    "\ud800-\udfff\U000e0000-\U000e0fff"  # halves of characters, tags
)
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_HARMFUL = re.compile(f"[{_UNSEEN}]")
_BREAKS = re.compile(f"[\n{_UNSEEN}]")
_STAND_INS = {"ε": "eps", "δ": "delta", "σ": "sigma", "≤": "<=", "≥": ">=", "–": "-", "—": "-", "…": "...", "×": "x"}
_HANDLER = "consilium.stand-in"


def visible(text: str) -> str:
    """``text`` with every character that a terminal would obey, or not show, as an escape; its lines stay lines."""
    return _HARMFUL.sub(_escaped, text)


def one_line(text: str) -> str:
    """The same, and line feeds too: a message cannot pretend to be two."""
    return _BREAKS.sub(_escaped, text)


def printable(value: object) -> object:
    """Plain JSON with every control character in its texts and keys as an escape, for pages and tables.

    Those that override the direction of writing too; joiners, which scripts need, stay: nothing there obeys them.
    """
    if isinstance(value, str):
        return _STEERING.sub(_escaped, value)
    if isinstance(value, dict):
        return {printable(name): printable(one) for name, one in value.items()}
    return [printable(one) for one in value] if isinstance(value, list | tuple) else value


class LineFormatter(logging.Formatter):
    """Log messages as one visible line each; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name is the base class's)
        """The message of ``record``."""
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """The message, with the traceback if there is one."""
        return visible(super().format(record))


def log_lines(form: str) -> None:
    """Log to standard error, each message as one visible line of ``form``."""
    steady_streams()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def steady_streams() -> None:
    """Make writing to standard output and standard error safe: whatever they are, no text raises an error."""
    codecs.register_error(_HANDLER, _stand_in)
    for number in range(3):
        _fill_gap(number)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors=_HANDLER, closefd=False))
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors=_HANDLER)


def _fill_gap(number: int) -> None:
    """Open the null device for a standard stream that was closed at the start: else the next file takes its number.

    Then what a library writes to its standard error would stand in the middle of a model.
    """
    try:
        os.fstat(number)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number, this one


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    substitutes = (_STAND_INS.get(c) or c.encode("ascii", "backslashreplace").decode("ascii") for c in lacking)
    return "".join(substitutes), error.end
