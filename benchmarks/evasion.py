"""Evasion attacks beside those of other libraries: same model, images, budget; verdicts compared image by image.

    python benchmarks/evasion.py --records 1000 --weights /tmp/attacked.safetensors
    python benchmarks/evasion.py --only pgd --turns 5
    python benchmarks/evasion.py --markdown docs/results/evasion.md      and write the tables into that page

The model is a small network for Fashion-MNIST, trained to resist (``_peers/attacked.py``).  Attacks run in turn, one
thread each; a figure is the median over turns of the processor's seconds, which other processes do not add to, and a
ratio is to Consilium's.  Every library's points are judged by the same rule: right as it is and right under attack.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from _peers.attacked import attacked_model, attacked_records
from _peers.attackers import AUTO_ATTACK, PGD_40, Attacker, installed, timed
from _peers.tables import put
from torch import Tensor, nn

from consilium.core.records import Records

RADIUS = 0.1
RACES: Mapping[str, tuple[str, Mapping[str, Attacker]]] = {
    "pgd": ("PGD, 40 steps", PGD_40),
    "auto-attack": ("AutoAttack, standard", AUTO_ATTACK),
}


def main(words: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    asked = _asked(words)
    torch.set_num_threads(1)
    model, records = attacked_model(asked.weights), attacked_records(asked.records)
    lines = [_about(asked.records, asked.radius, model, records)]
    for name in asked.only or RACES:
        title, attackers = RACES[name]
        turns = 1 if name == "auto-attack" else asked.turns
        lines += ["", *table(title, attackers, model, records, asked.radius, turns)]
    print("\n".join(lines))
    if asked.markdown:
        put(asked.markdown, [*lines, ""])


def table(
    title: str, attackers: Mapping[str, Attacker], model: nn.Module, records: Records, radius: float, turns: int
) -> list[str]:
    """One line an attacker: seconds, ratio, robust accuracy, and how many verdicts are Consilium's."""
    here = {name: attacker for name, attacker in attackers.items() if installed(attacker)}
    absent = [name for name in attackers if name not in here]
    seconds: dict[str, list[float]] = {name: [] for name in here}
    verdicts: dict[str, Tensor] = {}
    for _ in range(turns):
        for name, attacker in here.items():
            spent, points = timed(attacker, model, records, radius)
            seconds[name].append(spent)
            verdicts[name] = robust(model, records, points)
            print(f"{title}: {name} {spent:.2f} s", flush=True)
    base, ours = statistics.median(seconds["Consilium"]), verdicts["Consilium"]
    rows = [
        f"| {name} {_version(attacker)} | {statistics.median(seconds[name]):.2f} "
        f"| {statistics.median(seconds[name]) / base:.2f} | {float(verdicts[name].double().mean()):.4f} "
        f"| {float((verdicts[name] == ours).double().mean()):.2%} |"
        for name, attacker in here.items()
    ]
    head = [f"| {title} | processor seconds | ratio | robust accuracy | same verdict |", "|---|--:|--:|--:|--:|"]
    return [*head, *rows, *([f"\nNot installed: {', '.join(absent)}."] if absent else [])]


def robust(model: nn.Module, records: Records, points: Tensor) -> Tensor:
    """Which records are right as they are and at the points, bool ``(n,)``."""
    with torch.no_grad():
        right = (model(x).argmax(1) == records.y for x in (records.x, points))
        return torch.stack(list(right)).all(0)


def _version(attacker: Attacker) -> str:
    try:
        return version(attacker.module.partition(".")[0].replace("_", "-"))
    except PackageNotFoundError:
        return ""


def _about(n: int, radius: float, model: nn.Module, records: Records) -> str:
    clean = float(robust(model, records, records.x).double().mean())
    size = sum(p.numel() for p in model.parameters())
    return (
        f"{n} test images of Fashion-MNIST, linf radius {radius:g}, a network of {size:,} weights trained with FGSM-RS "
        f"({clean:.1%} right without attack); one thread; load of the machine {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores; torch {version('torch')}."
    )


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--radius", type=float, default=RADIUS)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(RACES))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
