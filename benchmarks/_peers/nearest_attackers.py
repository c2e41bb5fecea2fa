"""DeepFool and Carlini-Wagner of other libraries and of Consilium under one face; the radius does not matter here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from consilium.attack.evasion._minimum_norm import MinimumNorm
from consilium.attack.evasion.carlini_wagner import CarliniWagner
from consilium.attack.evasion.deepfool import DeepFool
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.single_label import SingleLabel

from .attackers import Attacker, Craft

__all__ = ["CARLINI_WAGNER", "DEEP_FOOL"]

STEPS, OVERSHOOT, SEARCHES, SEARCH_STEPS, RATE = 50, 0.02, 5, 60, 0.05
_BATCH = 256


def _ours(attack: MinimumNorm) -> Craft:
    def craft(model: nn.Module, x: Tensor, y: Tensor, _radius: float) -> Tensor:
        view = ModelView(10, model, model, Records.of(x, y), task=SingleLabel())
        generator, parts = torch.Generator().manual_seed(0), zip(x.split(_BATCH), y.split(_BATCH), strict=True)
        return torch.cat([attack.closest(view, *part, generator)[0] for part in parts])

    return craft


def _foolbox(build: Callable[[], object]) -> Craft:
    def craft(model: nn.Module, x: Tensor, y: Tensor, _radius: float) -> Tensor:
        import foolbox

        peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        points: Tensor = build()(peer, x, y, epsilons=None)[1]  # type: ignore[operator]
        return points

    return craft


def _foolbox_deepfool() -> object:
    import foolbox

    return foolbox.attacks.L2DeepFoolAttack(steps=STEPS, overshoot=OVERSHOOT)


def _foolbox_carlini_wagner() -> object:
    import foolbox

    return foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=SEARCHES, steps=SEARCH_STEPS, stepsize=RATE, initial_const=1.0
    )


def _adv_lib_deepfool(model: nn.Module, x: Tensor, y: Tensor, _radius: float) -> Tensor:
    from adv_lib.attacks import df

    points: Tensor = df(model, x, y, steps=STEPS, overshoot=OVERSHOOT, norm=2)
    return points


def _adv_lib_carlini_wagner(model: nn.Module, x: Tensor, y: Tensor, _radius: float) -> Tensor:
    from adv_lib.attacks import carlini_wagner_l2

    points: Tensor = carlini_wagner_l2(
        model, x, y, learning_rate=RATE, initial_const=1.0, binary_search_steps=SEARCHES, max_iterations=SEARCH_STEPS
    )
    return points


def _by_name(*attackers: Attacker) -> Mapping[str, Attacker]:
    return {attacker.name: attacker for attacker in attackers}


DEEP_FOOL = _by_name(
    Attacker("Consilium", "consilium", _ours(DeepFool(steps=STEPS, overshoot=OVERSHOOT))),
    Attacker("Consilium, no halvings", "consilium", _ours(DeepFool(steps=STEPS, overshoot=OVERSHOOT, halvings=0))),
    Attacker("adv-lib", "adv_lib.attacks", _adv_lib_deepfool),
    Attacker("foolbox", "foolbox", _foolbox(_foolbox_deepfool)),
)
CARLINI_WAGNER = _by_name(
    Attacker("Consilium", "consilium", _ours(CarliniWagner(steps=SEARCH_STEPS, searches=SEARCHES, rate=RATE))),
    Attacker("adv-lib", "adv_lib.attacks", _adv_lib_carlini_wagner),
    Attacker("foolbox", "foolbox", _foolbox(_foolbox_carlini_wagner)),
)
