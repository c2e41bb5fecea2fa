"""One training or cell, watched: what happens to it goes to the terminal and to the sinks.

Rounds that an earlier run did are read from ``rounds.jsonl``, so that a curve is whole whoever draws it first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consilium.core.plain import numeric_member, read_json_lines
from consilium.evidence.cell import CellEvidence
from consilium.federate.client.participant import SiteState
from consilium.monitor.epsilon_tracker import Spending
from consilium.monitor.eta import Kind
from consilium.monitor.progress import Ticker
from consilium.monitor.sinks.sink import Curve
from consilium.monitor.sinks.tracks import Tracks
from consilium.study.evaluate.shadow_training import shadows_wanted
from consilium.study.plan.plan import CellNode, Plan, TrainingNode
from consilium.study.store.store import Store

__all__ = ["Watch", "shadow_kind", "training_label", "watch_cell", "work"]


def work(plan: Plan) -> dict[Kind, int]:
    """The rounds, shadows and attacks of a plan, by kind."""
    total: Counter[Kind] = Counter()
    shadows = shadows_wanted(plan)
    for node in plan.trainings.values():
        total[_rounds_kind(node)] += _rounds(plan)
        if shadows[node.digest]:
            total[shadow_kind(node)] += shadows[node.digest]
    for attack in plan.spec.attacks:
        total[Kind("attacks", attack.name)] += len(plan.cells)
    return dict(total)


def shadow_kind(node: TrainingNode) -> Kind:
    """The shadows of one training."""
    return Kind("shadows", _rounds_kind(node).name)


def training_label(node: TrainingNode) -> str:
    """For people: arm, seed, infection."""
    infected = "" if node.corruption is None else f", infected by {node.corruption.name}"
    return f"{node.arm.name} (seed {node.seed}{infected})"


class Watch:
    """A training from its beginning to its end; called after every round."""

    def __init__(self, plan: Plan, node: TrainingNode, store: Store, ticker: Ticker, tracks: Tracks) -> None:
        self._ticker, self._tracks = ticker, tracks
        self._kind, self._total = _rounds_kind(node), _rounds(plan)
        self._log = store.training(node.digest) / "rounds.jsonl"
        self._curve = Curve(training_label(node), node.digest, _facts(plan, node))
        self._spending = Spending(plan.claims.get(node.digest, ()))
        self._done: int | None = None
        ticker.begin(f"training {training_label(node)}", self._total)

    def __call__(self, report: Mapping[str, Any], sites: Mapping[str, SiteState]) -> None:
        """One round is done."""
        number = report["round"]
        if self._done is None:
            self._catch_up(number - 1)
        self._done = number
        spent = self._spending.after(number, sites, last=number == self._total)
        self._ticker.round(self._kind, report, spent)
        self._tracks.round(report, spent)

    def finished(self) -> None:
        """Every round is done, in this run or before it."""
        if self._done is None:
            self._catch_up(self._total)
        else:
            self._ticker.skip(self._kind, self._total - self._done)  # a budget may end it early
            self._ticker.trained()
        self._tracks.end(True)

    def failed(self) -> None:
        """No more rounds will be done."""
        self._ticker.skip(self._kind, self._total - (self._done or 0))
        self._tracks.end(False)

    def _catch_up(self, done: int) -> None:
        self._ticker.skip(self._kind, done)
        if self._tracks:
            self._tracks.begin(self._curve, *_before(self._log, done))


def watch_cell(tracks: Tracks, cell: CellNode, evidence: CellEvidence) -> None:
    """A cell is judged and attacked, in this run or before it."""
    facts = {**cell.arm.choices, "arm": cell.arm.name, "seed": str(cell.seed), "infected by": cell.infected_by}
    tracks.cell(Curve(cell.label, cell.digest, facts), evidence)


def _before(path: Path, done: int) -> tuple[list[Mapping[str, Any]], float]:
    """Reports of the first ``done`` rounds, and when the last of them ended; what is not there is left out."""
    try:
        lines = [said for _, said in read_json_lines(path) if said is not None]
        ended = path.stat().st_mtime - sum(
            numeric_member(line, "seconds") for line in lines if numeric_member(line, "round") > done
        )
        return [line for line in lines if numeric_member(line, "round") <= done], ended
    except (OSError, KeyError, TypeError):
        return [], 0.0


def _facts(plan: Plan, node: TrainingNode) -> dict[str, str]:
    federation = node.arm.study(plan.spec).federation
    shape = {} if federation is None else {k: str(v) for k, v in federation.configuration().items()}
    infected = "none" if node.corruption is None else node.corruption.name
    return {**shape, "training of arm": node.arm.name, "seed": str(node.seed), "infected by": infected}


def _rounds_kind(node: TrainingNode) -> Kind:
    return Kind("rounds", node.arm.name + ("" if node.corruption is None else f" infected by {node.corruption.name}"))


def _rounds(plan: Plan) -> int:
    return 0 if plan.spec.federation is None else plan.spec.federation.shape.rounds
