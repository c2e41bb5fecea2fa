"""How long this process has run, imports included: what a user waited for, and not the part that was worked in.

On Linux by the system's record of when it was started (field 22 of /proc/self/stat, in ticks since the machine's), else
since this module was imported, which is within the first tenth of a second.

Source: proc_pid_stat(5)
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["process_seconds"]

_IMPORTED = time.monotonic()
_START = 22


def process_seconds() -> float:
    """Seconds of wall time since this process was started."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        started = int(fields[_START - 3]) / os.sysconf("SC_CLK_TCK")  # the first two fields are before the bracket
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _IMPORTED
