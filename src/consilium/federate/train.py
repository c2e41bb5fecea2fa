"""Rounds: exchange, assess, log, checkpoint; resumable after any of them.

``FOLDER/checkpoint.safetensors`` is the state after the last finished round, ``FOLDER/rounds.jsonl`` one line a round.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from consilium.core.exchange import Joint
from consilium.core.plain import Json
from consilium.evidence.merge import LargestShare
from consilium.evidence.round import RefusedSite, RoundEvidence, RoundReport, SitePoint
from consilium.evidence.storage.write import plain

from .checkpoint import load_checkpoint, save_checkpoint, states_beside
from .client.assessment import Assessment
from .client.client_states import SiteStates
from .client.participant import SiteState
from .engines.engine import Engine
from .round.federated_evaluation import Assessing, AssessState, mean_accuracy
from .round.round import RoundExchange, RoundState
from .round.round_log import RoundLog
from .round.run_exchange import run_exchange

__all__ = ["Trained", "merged", "train"]

_NAMED = 100
"""Absent sites that a report names; it counts all of them."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The state after the last round, and every site's ledger; ``stopped``: why it was not the last planned."""

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
    name: str = "",
    guard: Callable[[], None] = lambda: None,
    judged: Callable[[RoundState], Mapping[str, Json]] = lambda _: {},
) -> Trained:
    """Run the rounds that are still to run; ``progress`` is called after each with its report and the sites' states.

    All sites, or with ``assess_cohort`` those of the round, assess the model every ``assess_every`` rounds and after
    the last one; with an engine that joins exchanges, together with the next round where every site takes part: its
    line in the log is written at once and amended then.  ``stop`` is called before each round, with its cohort and the
    sites' states; if it returns a reason, training ends with the current model.  ``name`` is the training's own: a
    checkpoint of another one is refused.  ``guard`` is called before each round and before anything of it is written:
    it raises where another process has taken the training over.  ``judged`` gives what else the report of a round says
    of the model after it.
    """
    guard()
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / "checkpoint.safetensors", RoundLog(folder / "rounds.jsonl")
    state, states = _resumed(checkpoint, start, name)
    seconds = log.settle(state.server.round)
    resumed_from = state.server.round
    unjudged = _unjudged(log) if engine.joins and resumed_from % assess_every == 0 else None
    why: str | None = None
    while state.server.round < rounds:
        guard()
        round_start, number = time.perf_counter(), state.server.round + 1
        why = None if stop is None else stop(number, exchange.open(state)[0], states)
        if why is not None:
            break
        paid = states if unjudged is None else dict(states)  # before the round with which the last one is judged
        state, assessments = _carried(engine, exchange, assessing, state, states, joint=unjudged is not None)
        states.roll_back(state.lost())
        seconds.append(time.perf_counter() - round_start)
        guard()
        if unjudged is not None:
            amended = {**unjudged, **_assessment_report(assessments)}
            log.amend(amended)
            progress(amended, paid)
        is_due = number % assess_every == 0 or number == rounds
        sites = () if not is_due else state.cohort if assess_cohort else tuple(assessing.sites)
        joins = engine.joins and not assessing.average.decay  # what is sent next must be what is judged
        later = joins and number < rounds and bool(sites) and set(sites) == set(state.cohort)
        report = _report(state, () if later else _assessed(engine, assessing, state, states, sites), seconds[-1])
        report = {**report, **judged(state)}
        guard()
        log.append(report)
        save_checkpoint(checkpoint, state, states)
        unjudged = report if later else None
        if not later:
            progress(report, states)
    if why is not None and unjudged is not None:
        log.amend(
            {**unjudged, **_assessment_report(_assessed(engine, assessing, state, states, tuple(assessing.sites)))}
        )
    states.clean()
    return Trained(state, states, math.fsum(seconds), resumed_from, why)


def merged(report: RoundReport) -> set[str]:
    """The sites whose work of a round is in the model after it."""
    out = {*report.get("dropped", ()), *report.get("late", ()), *(refused["site"] for refused in report["refused"])}
    return set() if report.get("aborted") else set(report["cohort"]) - out


def _resumed(checkpoint: Path, start: RoundState, name: str) -> tuple[RoundState, SiteStates]:
    """The last finished round and its states, without what a killed one left behind."""
    params = start.server.params
    if checkpoint.exists():
        state, states = load_checkpoint(checkpoint, str(params.device), name)
    else:
        size = params.numel() * params.element_size()
        states = SiteStates.fit(states_beside(checkpoint), start.server.population, size, str(params.device), name)
        state = start
    states.clean()
    return state, states


def _carried(
    engine: Engine, exchange: RoundExchange, assessing: Assessing, state: RoundState, states: SiteStates, *, joint: bool
) -> tuple[RoundState, Sequence[Assessment]]:
    """The state after the next round; and with ``joint``, the assessments of the model that it starts from."""
    name = f"round {state.server.round + 1}"
    if not joint:
        return run_exchange(engine, exchange, state, states, SiteState, name).with_rejections(engine.rejections()), ()
    question = AssessState(state.server, tuple(assessing.sites))
    judged, after = run_exchange(engine, Joint(assessing, exchange), (question, state), states, SiteState, name)
    return after.with_rejections(engine.rejections()), judged.assessments


def _assessed(
    engine: Engine, assessing: Assessing, state: RoundState, states: SiteStates, sites: tuple[str, ...]
) -> Sequence[Assessment]:
    """The assessments of the model by ``sites``; only a personal one needs their states."""
    if not sites:
        return ()
    personal = {site: states[site] for site in sites if site in states} if assessing.algorithm.personal else {}
    question, name = AssessState(state.server, sites), f"round {state.server.round}"
    return run_exchange(engine, assessing, question, personal, SiteState, name).assessments


def _report(state: RoundState, assessments: Sequence[Assessment], seconds: float) -> RoundReport:
    mean, worst, loss = mean_accuracy(assessments)
    return plain(
        RoundEvidence(
            round=state.server.round,
            seconds=seconds,
            cohort=tuple(state.cohort),
            absent=tuple(state.absent[:_NAMED]),
            absent_count=len(state.absent),
            dropped=tuple(state.dropped),
            late=tuple(state.late),
            slow=tuple(state.slow),
            aborted=state.aborted,
            broken=state.broken,
            largest_share=_largest(state.shares),
            bytes_up=state.bytes_up,
            bytes_down=state.bytes_down,
            mean_accuracy=mean,
            worst_accuracy=worst,
            mean_loss=loss,
            sites=tuple(SitePoint(**asdict(a)) for a in assessments),
            refused=tuple(RefusedSite(site, reason) for site, reason in state.refused.items()),
        )
    )


def _largest(shares: Mapping[str, float]) -> LargestShare | None:
    """The site that counted most in the merge; None where nothing was merged."""
    if not shares:
        return None
    site = max(shares, key=lambda name: shares[name])
    return LargestShare(site, shares[site])


def _assessment_report(assessments: Sequence[Assessment]) -> RoundReport:
    mean, worst, loss = mean_accuracy(assessments)
    return {
        "mean_accuracy": mean,
        "worst_accuracy": worst,
        "mean_loss": loss,
        "sites": [asdict(a) for a in assessments],
    }


def _unjudged(log: RoundLog) -> RoundReport | None:
    """The report of the last round, where a training was killed before its model was assessed."""
    report = log.last()
    return report if report is not None and not report["sites"] else None
