"""A request to stop that cannot be lost.

Ctrl-C raises KeyboardInterrupt wherever the program happens to be.  Where that is one of torch's lazy imports it is
swallowed, or comes back as another error that would be recorded as a failure of the study.  So the request is also
stored, and is checked before going on and before recording an error.
"""

from __future__ import annotations

import signal
import threading

__all__ = ["asked", "check_interrupt", "listen"]

_ASKED = threading.Event()


def listen() -> None:
    """Remember Ctrl-C and SIGTERM from now on; both raise KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ask)


def asked() -> bool:
    """True if a stop was requested."""
    return _ASKED.is_set()


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if a stop was requested."""
    if _ASKED.is_set():
        raise KeyboardInterrupt


def _ask(*_: object) -> None:
    _ASKED.set()
    raise KeyboardInterrupt
