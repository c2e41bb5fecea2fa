"""What a step of adversarial training costs over a plain one, with and without DP-SGD, in one run.

    python benchmarks/adversarial_training.py                      three models, all variants: two minutes on one core
    python benchmarks/adversarial_training.py --turns 5 --models "CNN 26k, B 128"
    python benchmarks/adversarial_training.py --markdown docs/how-to/train-robustly.md     and write the table there

Everybody steps in turn on the same records, one thread, by the product's own rules.  A figure is the median over turns
of the processor seconds of one step, over that of the plain step; brackets have the least and the greatest ratio of one
turn.  Processor seconds count what others took from the clock as nothing; what they took from the caches they count.
The column beside it is what a step inside DP-SGD takes more than DP-SGD's own, in plain steps.  Linux only (/proc).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from _peers.meter import Reading, processor
from _peers.private_steps import Step, Task
from _peers.private_tasks import small
from _peers.tables import put

from consilium.core.defence import TrainingDefence
from consilium.core.gradient import GradientRule, Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.workspace import Compute
from consilium.defend.training.adversarial_training import AdversarialTraining
from consilium.defend.training.dp_sgd import DPSGD
from consilium.defend.training.free_adversarial_training import FreeAdversarialTraining
from consilium.defend.training.mart import MART
from consilium.defend.training.trades import TRADES
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.models.cnn import CNN
from consilium.learn.models.resnet9 import ResNet9
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

LR, RADIUS = 0.05, 0.1
MODELS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("cnn, B 128", lambda: CNN().build((1, 28, 28), 10), (1, 28, 28), 128),
        Task("CNN 26k, B 128", small, (1, 28, 28), 128),
        Task("ResNet-9 width 16, B 64", lambda: ResNet9(width=16).build((3, 32, 32), 10), (3, 32, 32), 64),
    )
}
VARIANTS: Mapping[str, TrainingDefence | None] = {
    "plain": None,
    "FGSM": AdversarialTraining(RADIUS, steps=1, random_start=False),
    "FGSM-RS": AdversarialTraining(RADIUS, steps=1),
    "FGSM-RS, alpha .5": AdversarialTraining(RADIUS, steps=1, alpha=0.5),
    "Free-4": FreeAdversarialTraining(RADIUS, replays=4),
    "PGD-7": AdversarialTraining(RADIUS, steps=7),
    "TRADES-10": TRADES(RADIUS, steps=10),
    "MART-10": MART(RADIUS, steps=10),
}
PRIVATE = DPSGD(noise_multiplier=1.0, delta=1e-5)


def main(words: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    asked = _asked(words)
    torch.set_num_threads(1)
    lines = [_about(), ""]
    for name, task in MODELS.items():
        if not asked.models or name in asked.models:
            lines += [*table(task, asked.turns), ""]
    print("\n".join(lines))
    if asked.markdown:
        put(asked.markdown, lines)


def table(task: Task, turns: int) -> list[str]:
    """One line per variant."""
    steps = {name: _step(task, defence, private=False) for name, defence in VARIANTS.items()}
    steps |= {
        f"DP {name}": _step(task, defence, private=True)
        for name, defence in VARIANTS.items()
        if defence is None or not defence.not_private
    }
    seconds, load = _race(steps, turns)
    base = seconds["plain"]
    lines = [
        f"{task.name}: a plain step takes {statistics.median(base) * 1e3:.1f} ms; {turns} turns, others used "
        f"{load:.0%} of the machine.",
        "",
        "| variant | x plain step | inside DP-SGD, x plain step | crafting adds there, plain steps |",
        "|---|--:|--:|--:|",
    ]
    for name in VARIANTS:
        private = seconds.get(f"DP {name}")
        added = _ratio([a - b for a, b in zip(private, seconds["DP plain"], strict=True)], base) if private else ""
        inside = _ratio(private, base) if private else "refused"
        lines.append(f"| {name} | {_ratio(seconds[name], base)} | {inside} | {added} |")
    return lines


def _race(steps: Mapping[str, Step], turns: int) -> tuple[dict[str, list[float]], float]:
    """Processor seconds of a step, per variant and turn, and the share of the machine that others used."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(0)
    before, order = Reading.here(), list(steps)
    for turn in range(turns):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            start = time.process_time()
            steps[name](turn)
            steps[name](turn + 1)
            seconds[name].append((time.process_time() - start) / 2)
    return seconds, Reading.here().foreign(before)


def _step(task: Task, defence: TrainingDefence | None, private: bool) -> Step:
    """A step of SGD by the product's own rule, of an objective that ``defence`` has changed."""
    records = task.records()
    network = Network(task.built(), Compute(layout="channels-last"))
    objective: Objective = TaskLoss(SingleLabel())
    rule: GradientRule = MeanGradient()
    if private:
        rule = PRIVATE.rule(rule)
    if defence is not None:
        rule, objective = defence.rule(rule), defence.objective(objective)
    params, buffers = network.start()
    weights = [params]
    oracles = [rule.oracle(records, network, objective, Schedule(1, 1, task.batch), Stream(0))]

    def step(number: int) -> None:
        try:
            gradient = oracles[-1](weights[0], buffers)
        except IndexError:  # the round's batches are used up
            oracles[-1] = rule.oracle(records, network, objective, Schedule(1, 1, task.batch), Stream(number))
            gradient = oracles[-1](weights[0], buffers)
        weights[0] = weights[0] - LR * gradient.value

    return step


def _ratio(values: Sequence[float], base: Sequence[float]) -> str:
    each = [value / one for value, one in zip(values, base, strict=True)]
    return f"{statistics.median(values) / statistics.median(base):.2f} ({min(each):.2f}-{max(each):.2f})"


def _about() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, 1 thread, torch {torch.__version__}."


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--models", nargs="*", default=[], choices=[*MODELS, []])
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
