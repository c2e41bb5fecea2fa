"""Fresh processes of this machine, for stages that compute with several threads: a forked process cannot.

    python -m consilium.study.executors.distributed.children PARENT     [folder, study, stage] a line in, JSON out

A child plans once and does stage after stage.  It ends when its parent does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from consilium.core.errors import ConsiliumError, Failed
from consilium.study.executors.forked import WorkerLost, end_with

from .elsewhere import perform_elsewhere

__all__ = ["Children", "main"]


class Children(ThreadPoolExecutor):
    """A thread for each of ``workers`` children, which waits for it."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers, thread_name_prefix="child")
        self._own, self._all = threading.local(), list[subprocess.Popen[str]]()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """``fn`` is :func:`.elsewhere.perform_elsewhere`, which the child has."""
        return super().submit(self._ask, *args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Kill what is at work: all files are replaced atomically."""
        for child in self._all:
            child.kill()
        super().shutdown(wait=True, cancel_futures=True)
        for child in self._all:
            child.communicate()

    def _ask(self, *words: str) -> Any:
        child = self._child()
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(json.dumps(words) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise WorkerLost(
                f"its worker process ended (exit status {child.wait()})",
                remedy="it may have run out of memory: use fewer workers, or a smaller batch",
            )
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(**answer["error"])
        return answer["result"]

    def _child(self) -> subprocess.Popen[str]:
        child: subprocess.Popen[str] | None = getattr(self._own, "child", None)
        if child is None or child.poll() is not None:
            words = [sys.executable, "-m", __name__, str(os.getpid())]
            child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
            self._own.child = child
            self._all.append(child)
        return child


def main() -> None:
    """The child's side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    end_with(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what anyone prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_answer(*json.loads(line))) + "\n")
        answers.flush()


def _answer(folder: str, study: str, stage: str) -> dict[str, object]:
    try:
        return {"result": perform_elsewhere(folder, study, stage)}
    except ConsiliumError as error:
        return {"error": {"reason": error.reason, "remedy": error.remedy, "where": error.where}}
    except Exception as error:
        return {"error": {"reason": f"{type(error).__name__}: {error}"}}


if __name__ == "__main__":
    main()
