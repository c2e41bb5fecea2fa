"""Black-box attacks beside those of other libraries: same model, images and queries; and beside each other.

    python benchmarks/black_box.py --records 1000 --weights /tmp/attacked.safetensors

The model is that of ``evasion.py``.  Square: 1000 queries of each record, linf .1 and l2 1.5.  HopSkipJump: foolbox
has no budget of queries, so it takes nine steps, about 2100 queries, from the starts that ours takes.  Every library's
points are judged by the same rule.  Seconds are the processor's, of one thread; queries are counted by a module around
the model.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from _peers.attacked import attacked_model, attacked_records
from torch import Tensor, nn

from consilium.attack.evasion._black_box import Answers
from consilium.attack.evasion._decisions import starting_points
from consilium.attack.evasion._evasion import Evasion
from consilium.attack.evasion.boundary import BoundaryAttack
from consilium.attack.evasion.hop_skip_jump import HopSkipJump
from consilium.attack.evasion.pgd import PGD
from consilium.attack.evasion.square import Square
from consilium.attack.evasion.zoo import Zoo
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.perturbation.balls import size_of
from consilium.learn.tasks.single_label import SingleLabel

Craft = Callable[[nn.Module, Records], Tensor]


class Counting(nn.Module):
    """Counts the records that it is asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.asked = model, 0

    def forward(self, x: Tensor) -> Tensor:
        """The model's answers."""
        self.asked += len(x)
        answers: Tensor = self.model(x)
        return answers


def ours(attack: Evasion) -> Craft:
    """Consilium's attack, batch by batch."""

    def craft(model: nn.Module, records: Records) -> Tensor:
        view = ModelView(10, model, model, records, task=SingleLabel())
        generator = torch.Generator().manual_seed(0)
        rows = torch.split(torch.arange(len(records)), 256)
        return torch.cat([attack.craft(view, records.x[part], records.y[part], generator) for part in rows])

    return craft


def pyautoattack_square(norm: str, radius: float) -> Craft:
    """The authors' code, packaged."""

    def craft(model: nn.Module, records: Records) -> Tensor:
        from pyautoattack.square import SquareAttack

        attack = SquareAttack(model, norm=norm.capitalize(), n_queries=1000, eps=radius, seed=0)
        parts = zip(records.x.split(256), records.y.split(256), strict=True)
        return torch.cat([attack.perturb(x, y) for x, y in parts])

    return craft


def torchattacks_square(norm: str, radius: float) -> Craft:
    """The port of torchattacks."""

    def craft(model: nn.Module, records: Records) -> Tensor:
        import torchattacks

        attack = torchattacks.Square(model, norm=norm.capitalize(), eps=radius, n_queries=1000, seed=0)
        return torch.cat([attack(x, y) for x, y in zip(records.x.split(256), records.y.split(256), strict=True)])

    return craft


def foolbox_hop_skip_jump(norm: str, radius: float) -> Craft:
    """Nine steps from our starts; what ends outside the ball counts as not found."""

    def craft(model: nn.Module, records: Records) -> Tensor:
        import foolbox

        ball = HopSkipJump(radius=radius, norm="l2" if norm == "l2" else "linf")
        with torch.no_grad():
            right = torch.nonzero(model(records.x).argmax(1) == records.y)[:, 0]
        few = records.select(right)
        view = ModelView(10, model, None, few, task=SingleLabel())
        answers = Answers(view, few.x, few.y, ball.goal_for(view.task), 26)
        rows, start = starting_points(answers, few.x, torch.arange(len(few)), torch.Generator().manual_seed(0))
        attack = foolbox.attacks.HopSkipJumpAttack(steps=9, constraint=norm)
        peer = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device="cpu")
        near = attack(peer, few.x[rows], few.y[rows], epsilons=None, starting_points=start)[1]
        inside = size_of(near - few.x[rows], ball.norm) <= radius
        out = records.x.clone()
        out[right[rows[inside]]] = near[inside]
        return out

    return craft


def races(records: int) -> Iterator[tuple[str, int, dict[str, Craft]]]:
    """Title, number of records, and who takes part; ours is first."""
    for norm, radius in (("linf", 0.1), ("l2", 1.5)):
        square = Square(radius=radius, norm="l2" if norm == "l2" else "linf", queries=1000)
        yield f"Square {norm} {radius}", records, {
            "Consilium": ours(square),
            "pyautoattack": pyautoattack_square(norm, radius),
            "torchattacks": torchattacks_square(norm, radius),
        }  # fmt: skip
    for norm, radius in (("l2", 2.0), ("linf", 0.15)):
        jump = HopSkipJump(radius=radius, norm="l2" if norm == "l2" else "linf", queries=2000)
        few = {"Consilium": ours(jump), "foolbox": foolbox_hop_skip_jump(norm, radius)}
        yield f"HopSkipJump {norm} {radius}", max(1, records // 5), few
    radius = 1.5
    yield (
        f"One budget, l2 {radius}, 2000 queries",
        max(1, records // 5),
        {
            "square": ours(Square(radius=radius, norm="l2", queries=2000)),
            "zoo": ours(Zoo(radius=radius, norm="l2", queries=2000, step_size=0.05)),
            "hop-skip-jump": ours(HopSkipJump(radius=radius, queries=2000)),
            "boundary": ours(BoundaryAttack(radius=radius, queries=2000)),
            "pgd (gradients)": ours(PGD(radius=radius, norm="l2", steps=40, loss="margin")),
        },
    )


def main() -> None:
    """Race, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of titles, such as Square")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = attacked_model(chosen.weights).requires_grad_(False)
    for title, number, crafts in races(chosen.records):
        if chosen.only and not title.startswith(tuple(chosen.only)):
            continue
        records = attacked_records(number)
        print(f"\n{title}; n = {number}; load {os.getloadavg()[0]:.1f}\n")
        print("| attack | seconds | ratio | queries a record | robust accuracy |\n|---|--:|--:|--:|--:|")
        first = 0.0
        for name, craft in crafts.items():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    counting = Counting(model).eval()
                    begin = time.process_time()
                    points = craft(counting, records)
                    seconds = time.process_time() - begin
            except ImportError as error:
                print(f"| {name} | not installed: {error.name} | | | |")
                continue
            first = first or seconds
            with torch.no_grad():
                right = (model(records.x).argmax(1) == records.y) & (model(points).argmax(1) == records.y)
            asked = counting.asked / number
            print(f"| {name} | {seconds:.1f} | {seconds / first:.2f} | {asked:.0f} | {right.double().mean():.3f} |")


if __name__ == "__main__":
    main()
