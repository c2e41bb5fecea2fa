"""DeepFool and Carlini-Wagner in l2 beside those of other libraries: same model, images, budgets; lengths compared.

    python benchmarks/minimum_norm.py --records 256 --weights /tmp/attacked.safetensors
    python benchmarks/minimum_norm.py --markdown docs/how-to/minimum-norm-attacks.md     write the tables there

The model is that of ``evasion.py``.  Attacks run in turn, one thread each; seconds are the processor's, a median over
turns, and a ratio is to Consilium's.  Every library's points are judged by the same rule in whole batches.  Lengths
are of the records that all of a table's attacks fooled: a mean over those that each fooled would favour the one that
leaves out the hard records.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from _peers.attacked import attacked_model, attacked_records
from _peers.attackers import Attacker, installed, timed
from _peers.nearest_attackers import CARLINI_WAGNER, DEEP_FOOL
from _peers.tables import put
from torch import Tensor, nn

from consilium.core.records import Records

RACES: Mapping[str, tuple[str, Mapping[str, Attacker]]] = {
    "deepfool": ("DeepFool, 50 steps", DEEP_FOOL),
    "carlini-wagner": ("C&W, 5 constants of 60 steps", CARLINI_WAGNER),
}


def main(words: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    chosen = _chosen(words)
    torch.set_num_threads(1)
    model, records = attacked_model(chosen.weights), attacked_records(chosen.records)
    with torch.no_grad():
        records = records.select(model(records.x).argmax(1) == records.y)
    lines = [
        f"The {len(records)} of the first {chosen.records} test images of Fashion-MNIST that a network trained with "
        f"FGSM-RS answers rightly; one thread; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    ]
    for name in chosen.only or RACES:
        lines += ["", *table(*RACES[name], model, records, chosen.turns)]
    print("\n".join(lines))
    if chosen.markdown:
        put(chosen.markdown, [*lines, ""])


def table(title: str, attackers: Mapping[str, Attacker], model: nn.Module, records: Records, turns: int) -> list[str]:
    """One line an attacker: seconds, ratio, share fooled, and lengths where all of them fooled."""
    here = {name: attacker for name, attacker in attackers.items() if installed(attacker)}
    seconds: dict[str, list[float]] = {name: [] for name in here}
    lengths: dict[str, Tensor] = {}
    for _ in range(turns):
        for name, attacker in here.items():
            spent, points = timed(attacker, model, records, 0.0)
            seconds[name].append(spent)
            lengths[name] = fooled_lengths(model, records, points)
    everywhere = torch.stack(list(lengths.values())).isfinite().all(0)
    base = statistics.median(seconds["Consilium"])
    rows = [
        f"| {name} | {statistics.median(seconds[name]):.2f} | {statistics.median(seconds[name]) / base:.2f} "
        f"| {float(lengths[name].isfinite().double().mean()):.4f} | {float(lengths[name][everywhere].mean()):.4f} "
        f"| {float(lengths[name][everywhere].median()):.4f} |"
        for name in here
    ]
    absent = [name for name in attackers if name not in here]
    return [
        f"| {title} | processor seconds | ratio | fooled | mean l2 | median l2 |",
        "|---|--:|--:|--:|--:|--:|",
        *rows,
        *([f"\nNot installed: {', '.join(absent)}."] if absent else []),
    ]


def fooled_lengths(model: nn.Module, records: Records, points: Tensor) -> Tensor:
    """The length ``(n,)`` of each change; infinite where the answer is still right."""
    with torch.no_grad():
        wrong = model(points).argmax(1) != records.y
    return torch.where(wrong, (points - records.x).flatten(1).norm(dim=1), torch.inf)


def _chosen(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--records", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(RACES))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
