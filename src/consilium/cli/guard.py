"""What ends a command: every error becomes one line and an exit code."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ..core.errors import ConsiliumError, Failed, Refused
from ..monitor.interrupt import asked, listen
from .output import print_stderr

__all__ = ["guarded"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk, the user's share of it, or the largest file that may be written."""
_STOPPED = Failed("stopped", remedy="nothing finished is lost; run again to go on")


@contextmanager
def guarded(as_json: bool) -> Iterator[None]:
    """Turn every error into one line and an exit code."""
    listen()
    try:
        yield
        sys.stdout.flush()  # here, where a reader that has gone away is no error, and not at the exit
    except ConsiliumError as error:
        if os.environ.get("CONSILIUM_DEBUG") and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        _fail(_STOPPED if asked() else error, as_json)
    except KeyboardInterrupt:
        _fail(_STOPPED, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except OSError as error:
        remedy = "free disk space and run again" if error.errno in _FULL else "check the path and its rights"
        _fail(Failed(f"{error.filename or 'the system'}: {error.strerror or error}", remedy=remedy), as_json)
    except MemoryError:
        _fail(Failed("out of memory", remedy="use a smaller batch, model or data set"), as_json)
    except (typer.Exit, typer.Abort):
        raise
    except SystemExit as error:
        from ..study.store.error_summary import own_code

        if not own_code(error):
            raise
        _fail(_unforeseen(error), as_json)
    except Exception as error:
        if asked():
            _fail(_STOPPED, as_json)
        if os.environ.get("CONSILIUM_DEBUG"):
            raise
        _fail(_unforeseen(error), as_json)


def _unforeseen(error: Exception | SystemExit) -> ConsiliumError:
    """An uncaught error: attributed to a user's own file if the traceback goes through one, else a defect."""
    from ..study.store.error_summary import own_code

    first = (str(error).strip().splitlines() or [""])[0]
    reason, place = f"{type(error).__name__}: {first}", own_code(error)
    if place:
        return Refused(f"{place} raised {reason}", remedy="mend it there; CONSILIUM_DEBUG=1 shows the traceback")
    remedy = "this is a defect of Consilium: set CONSILIUM_DEBUG=1 for the traceback and report it"
    return Failed(reason, remedy=remedy)


def _fail(error: ConsiliumError, as_json: bool) -> None:
    if as_json:
        detail = {"where": error.where, "reason": error.reason, "remedy": error.remedy}
        print(json.dumps({"error": str(error), "exit_code": error.exit_code, **detail}))
    print_stderr(f"consilium: {error}")
    raise typer.Exit(error.exit_code)
