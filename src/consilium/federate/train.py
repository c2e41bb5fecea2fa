"""Rounds: exchange, assess, log, checkpoint; resumable after any of them.

``FOLDER/checkpoint.safetensors`` is the state after the last finished round, ``FOLDER/rounds.jsonl`` one line a round.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from consilium.core.errors import Failed

from .assess import Assessing, Assessment, AssessState, mean_accuracy
from .checkpoint import load_checkpoint, save_checkpoint, states_beside
from .engines.engine import Engine, Folding
from .participant import SiteState
from .round import RoundExchange, RoundState
from .states import SiteStates

__all__ = ["RoundReport", "Trained", "merged", "train"]

RoundReport = Mapping[str, Any]
"""One line of ``rounds.jsonl``."""
_NAMED = 100
"""Absent sites that a report names; it counts all of them."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The state after the last round, and every site's ledger; ``stopped`` says why it was not the last planned."""

    state: RoundState
    sites: Mapping[str, SiteState]
    seconds: float
    resumed_from: int
    stopped: str | None = None


def train(
    engine: Engine,
    exchange: RoundExchange,
    assessing: Assessing,
    start: RoundState,
    rounds: int,
    folder: Path,
    progress: Callable[[RoundReport, Mapping[str, SiteState]], None],
    *,
    assess_every: int = 1,
    assess_cohort: bool = False,
    stop: Callable[[int, Sequence[str], Mapping[str, SiteState]], str | None] | None = None,
) -> Trained:
    """Run the rounds that are still to run; ``progress`` is called after each with its report and the sites' states.

    All sites, or with ``assess_cohort`` those of the round, judge the model every ``assess_every`` rounds and after the
    last one; with an engine that folds, together with the next round where everybody takes part: its line in the log is
    written at once and amended then.  ``stop`` is asked before each round, with its cohort and the sites' states; where
    it gives a reason, training ends with the model as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.safetensors"
    state, held = _resumed(checkpoint, start)
    seconds = _settled_log(folder / "rounds.jsonl", state.server.round)
    resumed_from = state.server.round
    owed = _owed(engine, folder / "rounds.jsonl", resumed_from) if resumed_from % assess_every == 0 else None
    why: str | None = None
    while state.server.round < rounds:
        began, number = time.perf_counter(), state.server.round + 1
        why = None if stop is None else stop(number, exchange.open(state)[0], held)
        if why is not None:
            break
        if isinstance(engine, Folding):
            engine.assess = owed is not None
        state = engine.run(exchange, state, held, SiteState, f"round {number}").noting(engine.turned())
        held.roll_back(state.lost())
        seconds.append(time.perf_counter() - began)
        if owed is not None and isinstance(engine, Folding):
            report = {**owed, **_judged([engine.heard[s] for s in assessing.sites if s in engine.heard])}
            _amend(folder / "rounds.jsonl", report)
            progress(report, held)
        due = number % assess_every == 0 or number == rounds
        asked = () if not due else state.cohort if assess_cohort else tuple(assessing.sites)
        folds = isinstance(engine, Folding) and not assessing.average.decay  # what is sent next must be what is judged
        later = folds and number < rounds and bool(asked) and set(asked) == set(state.cohort)
        told = () if later else _told(engine, assessing, state, held, asked)
        report = _report(state, told, seconds[-1])
        owed = report if later else None
        _append(folder / "rounds.jsonl", report)
        save_checkpoint(checkpoint, state, held)
        if not later:
            progress(report, held)
    if why is not None and owed is not None:
        _amend(
            folder / "rounds.jsonl", {**owed, **_judged(_told(engine, assessing, state, held, tuple(assessing.sites)))}
        )
    held.clean()
    return Trained(state, held, math.fsum(seconds), resumed_from, why)


def merged(report: RoundReport) -> set[str]:
    """The sites whose work of a round is in the model after it."""
    out = {*report.get("dropped", ()), *report.get("late", ()), *(refused["site"] for refused in report["refused"])}
    return set() if report.get("aborted") else set(report["cohort"]) - out


def _resumed(checkpoint: Path, start: RoundState) -> tuple[RoundState, SiteStates]:
    """The last finished round and its states, without what a killed one left behind."""
    params = start.server.params
    if checkpoint.exists():
        state, held = load_checkpoint(checkpoint, str(params.device))
    else:
        size = params.numel() * params.element_size()
        held = SiteStates.fit(states_beside(checkpoint), start.server.population, size, str(params.device))
        state = start
    held.clean()
    return state, held


def _told(
    engine: Engine, assessing: Assessing, state: RoundState, held: SiteStates, asked: tuple[str, ...]
) -> Sequence[Assessment]:
    """What ``asked`` say of the model; only a personal one needs what they keep."""
    if not asked:
        return ()
    own = {site: held[site] for site in asked if site in held} if assessing.algorithm.personal else {}
    return engine.run(assessing, AssessState(state.server, asked), own, SiteState, f"round {state.server.round}").told


def _report(state: RoundState, told: Sequence[Assessment], seconds: float) -> dict[str, Any]:
    return {
        "round": state.server.round,
        "seconds": seconds,
        "cohort": list(state.cohort),
        "absent": list(state.absent[:_NAMED]),
        "absent_count": len(state.absent),
        "dropped": list(state.dropped),
        "late": list(state.late),
        "slow": list(state.slow),
        "aborted": state.aborted,
        "broken": state.broken,
        "largest_share": _largest(state.shares),
        "bytes_up": state.bytes_up,
        "bytes_down": state.bytes_down,
        **_judged(told),
        "refused": [{"site": site, "reason": reason} for site, reason in state.refused.items()],
    }


def _largest(shares: Mapping[str, float]) -> dict[str, Any] | None:
    """The site that counted most in the merge; None where nothing was merged."""
    if not shares:
        return None
    site = max(shares, key=lambda name: shares[name])
    return {"site": site, "share": shares[site]}


def _judged(told: Sequence[Assessment]) -> dict[str, Any]:
    mean, worst, loss = mean_accuracy(told)
    return {"mean_accuracy": mean, "worst_accuracy": worst, "mean_loss": loss, "sites": [asdict(a) for a in told]}


def _owed(engine: Engine, log: Path, round: int) -> dict[str, Any] | None:
    """The line of the last round, where a folding engine was killed before anybody had judged its model."""
    if not isinstance(engine, Folding) or not log.exists():
        return None
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    last = _said(lines[-1]) if lines else None
    return last if last is not None and last["round"] == round and not last["sites"] else None


def _amend(path: Path, report: RoundReport) -> None:
    """Put ``report`` in the place of the last line."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    _replace(path, "".join([*lines[:-1], json.dumps(report) + "\n"]))


def _settled_log(path: Path, rounds: int) -> list[float]:
    """Drop the lines of rounds that were never kept, and a line that a kill cut; the seconds of those that stay."""
    if not path.exists():
        return []
    found = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [(line, said) for line in found if (said := _said(line)) is not None and said["round"] <= rounds]
    if len(whole) < len(found):
        _replace(path, "".join(line for line, _ in whole))
    return [float(said["seconds"]) for _, said in whole]


def _said(line: str) -> dict[str, Any] | None:
    try:
        return cast("dict[str, Any]", json.loads(line)) if line.endswith("}\n") else None
    except ValueError:
        return None


def _append(path: Path, report: RoundReport) -> None:
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(report) + "\n")
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        raise _unwritten(path, error) from error


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".draft")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> Failed:
    return Failed(f"cannot write {path}: {error}", remedy="free disk space and run again")
