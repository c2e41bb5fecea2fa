"""One training, watched where it runs: what happens to it is told as events, with what the ledgers have spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from consilium.evidence.round import RoundReport
from consilium.federate.client.participant import SiteState
from consilium.monitor.epsilon_tracker import Spending
from consilium.monitor.eta import Kind
from consilium.monitor.sinks.sink import Curve
from consilium.study.evaluate.shadow_training import shadows_wanted
from consilium.study.plan.nodes import CellNode, TrainingNode
from consilium.study.plan.plan import Plan

from .events import Began, CurveBegan, CurveEnded, RoundDone, Skipped, Tell, TrainingDone

__all__ = [
    "Watch",
    "cell_curve",
    "rounds_kind",
    "shadow_kind",
    "training_curve",
    "training_label",
    "work",
]


def work(plan: Plan) -> dict[Kind, int]:
    """The rounds, shadows and attacks of a plan, by kind."""
    total: Counter[Kind] = Counter()
    shadows = shadows_wanted(plan)
    for node in plan.trainings.values():
        total[rounds_kind(node)] += node.rounds
        if shadows[node.digest]:
            total[shadow_kind(node)] += shadows[node.digest]
    for attack in plan.spec.attacks:
        total[Kind("attacks", attack.name)] += len(plan.cells)
    return dict(total)


def shadow_kind(node: TrainingNode) -> Kind:
    """The shadows of one training."""
    return Kind("shadows", rounds_kind(node).name)


def training_label(node: TrainingNode) -> str:
    """For people: arm, seed, infection."""
    infected = "" if node.corruption is None else f", infected by {node.corruption.name}"
    return f"{node.arm.name} (seed {node.seed}{infected})"


class Watch:
    """A training from its beginning to its end; called after every round."""

    def __init__(self, plan: Plan, node: TrainingNode, tell: Tell) -> None:
        self._tell = tell
        self._kind, self._total = rounds_kind(node), node.rounds
        self._curve = training_curve(node)
        self._spending = Spending(plan.claims.get(node.digest, ()))
        self._done: int | None = None
        tell(Began(f"training {training_label(node)}", self._total))

    def __call__(self, report: RoundReport, sites: Mapping[str, SiteState]) -> None:
        """One round is done."""
        number = report["round"]
        if self._done is None:
            self._catch_up(number - 1)
        self._done = number
        spent = self._spending.after(number, sites, last=number == self._total)
        self._tell(RoundDone(self._kind, report, spent))

    def finished(self) -> None:
        """Every round is done, in this run or before it."""
        if self._done is None:
            self._catch_up(self._total)
        else:
            self._tell(Skipped(self._kind, self._total - self._done))  # a budget may end it early
            self._tell(TrainingDone())
        self._tell(CurveEnded(True))

    def failed(self) -> None:
        """No more rounds will be done."""
        self._tell(Skipped(self._kind, self._total - (self._done or 0)))
        self._tell(CurveEnded(False))

    def _catch_up(self, done: int) -> None:
        self._tell(Skipped(self._kind, done))
        self._tell(CurveBegan(self._curve, done))


def training_curve(node: TrainingNode) -> Curve:
    """What the rounds of a training belong to."""
    return Curve(training_label(node), node.digest, _facts(node))


def cell_curve(cell: CellNode) -> Curve:
    """What the final figures of a cell belong to."""
    facts = {**cell.arm.choices, "arm": cell.arm.name, "seed": str(cell.seed), "infected by": cell.infected_by}
    return Curve(cell.label, cell.digest, facts)


def _facts(node: TrainingNode) -> dict[str, str]:
    shape = {k: str(v) for k, v in node.federation.configuration().items()}
    infected = "none" if node.corruption is None else node.corruption.name
    return {**shape, "training of arm": node.arm.name, "seed": str(node.seed), "infected by": infected}


def rounds_kind(node: TrainingNode) -> Kind:
    """The rounds of one arm, clean or infected."""
    return Kind("rounds", node.arm.name + ("" if node.corruption is None else f" infected by {node.corruption.name}"))
