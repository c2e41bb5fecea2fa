"""Attacks of other libraries and of Consilium under one face: records in, points out.

Each peer gets a copy of the model, because some leave gradients in its weights; what is not installed is left out by
name.  adv-lib imports visdom and torchvision without using them here, so it counts as installed where it can be
imported.
"""

from __future__ import annotations

import copy
import importlib
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.attack.evasion._evasion import Evasion
from consilium.attack.evasion.auto_attack import AutoAttack
from consilium.attack.evasion.pgd import PGD
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.single_label import SingleLabel

__all__ = ["AUTO_ATTACK", "PGD_40", "Attacker", "Craft", "installed", "timed"]

STEPS = 40
Craft = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Attacker:
    """``craft(model, x, y, radius)`` gives points of the linf ball; ``module`` is what must be installed for it."""

    name: str
    module: str
    craft: Craft


def installed(attacker: Attacker) -> bool:
    """Whether its package can be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(attacker.module)
    except ImportError:
        return False
    return True


def _ours(attack: Callable[[float], Evasion]) -> Craft:
    def craft(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
        view = ModelView(10, model, model, Records.of(x, y), task=SingleLabel())
        one, generator = attack(radius), torch.Generator().manual_seed(0)
        return torch.cat([one.craft(view, *part, generator) for part in zip(x.split(256), y.split(256), strict=True)])

    return craft


def _torchattacks(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    import torchattacks

    points: Tensor = torchattacks.PGD(model, eps=radius, alpha=2.5 * radius / STEPS, steps=STEPS)(x, y)
    return points


def _foolbox(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    import foolbox

    attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / STEPS, steps=STEPS)
    points: Tensor = attack(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=radius)[1]
    return points


def _adv_lib(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    from adv_lib.attacks import pgd_linf

    points: Tensor = pgd_linf(model, x, y, ε=radius, steps=STEPS, relative_step_size=2.5 / STEPS)
    return points


def _pyautoattack(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    import pyautoattack

    logging.disable(logging.CRITICAL)
    points: Tensor = pyautoattack.AutoAttack(model, eps=radius, seed=0).run_standard_evaluation(x, y, batch_size=256)[0]
    return points


PGD_40: Mapping[str, Attacker] = {
    attacker.name: attacker
    for attacker in (
        Attacker("Consilium", "consilium", _ours(lambda radius: PGD(radius=radius, steps=STEPS))),
        Attacker("torchattacks", "torchattacks", _torchattacks),
        Attacker("foolbox", "foolbox", _foolbox),
        Attacker("adv-lib", "adv_lib.attacks", _adv_lib),
    )
}
AUTO_ATTACK: Mapping[str, Attacker] = {
    attacker.name: attacker
    for attacker in (
        Attacker("Consilium", "consilium", _ours(lambda radius: AutoAttack(radius=radius))),
        Attacker("pyautoattack", "pyautoattack", _pyautoattack),
    )
}


def copied(model: nn.Module) -> nn.Module:
    """A copy without gradients."""
    other = copy.deepcopy(model)
    other.zero_grad(set_to_none=True)
    return other


def timed(attacker: Attacker, model: nn.Module, records: Records, radius: float) -> tuple[float, Tensor]:
    """Processor seconds of one attack on all records, and its points."""
    other = copied(model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = time.process_time()
        points = attacker.craft(other, records.x, records.y, radius)
        return time.process_time() - start, points.detach()
