"""A leash: a child process that does not outlive its parent, even a parent that is killed.

    python -m consilium.deploy.transport.die_with_parent PARENT COMMAND...

The kernel sends SIGTERM to this process when its parent dies (Linux only), and then
the command takes its place.  Without it a killed `serve` would leave its link behind on the port.

Source: prctl(2), PR_SET_PDEATHSIG; the setting survives execve(2).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str] | None = None) -> None:
    """Become the command."""
    parent, *command = sys.argv[1:] if arguments is None else arguments
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # the parent ended before the signal was set
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
