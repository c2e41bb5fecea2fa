"""One engine in a process of its own: it warms up, waits, runs as many rounds as it is told, and waits again.

The parent speaks JSON lines through two pipes whose numbers are the first two arguments; standard output stays free for
what engines print.  Run by benchmarks/federation.py, never by hand.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _peers.peer import Peer

LAST = 5
"""Rounds at the end of the warm-up whose accuracies are averaged."""


def make(kind: str, knobs: dict[str, str], job: dict[str, Any]) -> Peer:
    """The engine named ``kind``; packages of other engines are not imported."""
    from _peers.jobs import Job

    what = Job(**job)
    if kind == "plain":
        from _peers.plain import Plain

        return Plain(what, **knobs)
    if kind == "flower":
        from _peers.flower import Flower

        return Flower(what, **knobs)
    if kind == "pfl":
        from _peers.pfl_research import Pfl

        return Pfl(what, **knobs)
    from _peers.own import Own

    return Own(what, kind, **knobs)


def serve(asked: Any, told: Any) -> None:
    """Answer the parent until it says stop or goes away."""
    first = json.loads(asked.readline())
    peer = make(first["kind"], first["knobs"], first["job"])
    try:
        _say(told, accuracy=_warm(peer, first["job"]["rounds"]), about=peer.about())
        for line in asked:
            rounds = json.loads(line)["rounds"]
            if rounds == 0:
                break
            _say(told, seconds=peer.run(rounds))
    finally:
        peer.close()


def _warm(peer: Peer, rounds: int) -> float:
    """Train ``rounds`` rounds; the mean accuracy after each of the last five, which swings less than that of one."""
    last = min(LAST, rounds)
    peer.run(rounds - last + 1)
    found = [peer.accuracy()]
    for _ in range(last - 1):
        peer.run(1)
        found.append(peer.accuracy())
    return sum(found) / last


def _say(told: Any, **what: Any) -> None:
    told.write(json.dumps(what) + "\n")
    told.flush()


def main() -> None:
    """Serve; an error goes to the parent in one line and to the log in full."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(int(sys.argv[1])) as asked, os.fdopen(int(sys.argv[2]), "w") as told:
        try:
            serve(asked, told)
        except BrokenPipeError:
            pass
        except BaseException as error:
            traceback.print_exc()
            _say(told, error=f"{type(error).__name__}: {str(error).strip() or error!r}".splitlines()[0])
            raise SystemExit(1) from error


if __name__ == "__main__":
    main()
