"""``python -m consilium``, and the program ``consilium``: to be stopped at any moment in one line.

While the command line is imported a request to stop has nothing to save; when it is over it changes nothing.
"""

import os
import signal

__all__ = ["main"]


def main() -> None:
    """The entry point."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _early)
    from .cli.commands import main as program

    try:
        program()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _early(*_: object) -> None:
    os.write(2, b"consilium: stopped. Nothing was begun.\n")
    os._exit(3)


if __name__ == "__main__":
    main()
