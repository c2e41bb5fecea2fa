"""PGD against Foolbox and torchattacks at the same budget: robust accuracy within two points.

Both fill parameters' ``.grad`` or speak through warnings, so they get a copy of the model and a block of their own.
"""

import copy
import warnings

import pytest
import torch

from consilium.attack.evasion.fgsm import FGSM
from consilium.attack.evasion.pgd import PGD

STEPS = 20
BUDGETS = [("linf", 0.05), ("linf", 0.1), ("linf", 0.15), ("l2", 0.5), ("l2", 1.0)]


def robust(attack, view):
    return attack(view, {}, torch.Generator().manual_seed(0))["robust_accuracy"].value


def judged(view, crafted):
    """Their points by our definition: right as it is and right under attack."""
    y, module = view.targets.y, view.module
    with torch.no_grad():
        right = (module(view.targets.x).argmax(1) == y) & (module(crafted.float()).argmax(1) == y)
    return right.double().mean().item()


def foolbox_points(view, norm, radius, *, single=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
        model = foolbox.PyTorchModel(copy.deepcopy(view.module), bounds=(0, 1), device="cpu")
        if single:
            attack = (
                foolbox.attacks.LinfFastGradientAttack() if norm == "linf" else foolbox.attacks.L2FastGradientAttack()
            )
        else:
            maker = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
            attack = maker(rel_stepsize=2.5 / STEPS, steps=STEPS, random_start=True)
        return attack(model, view.targets.x, view.targets.y, epsilons=radius)[1]


def torchattacks_points(view, norm, radius):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchattacks = pytest.importorskip(
            "torchattacks", reason="torchattacks is not installed (pip install --no-deps torchattacks)",
            exc_type=ImportError,
        )  # fmt: skip
        maker, size = (torchattacks.PGD, "eps") if norm == "linf" else (torchattacks.PGDL2, "eps")
        attack = maker(copy.deepcopy(view.module), **{size: radius}, alpha=2.5 * radius / STEPS, steps=STEPS)
        return attack(view.targets.x, view.targets.y)


@pytest.mark.parametrize(("norm", "radius"), BUDGETS)
@pytest.mark.parametrize("points", [foolbox_points, torchattacks_points])
def test_pgd_finds_what_they_find(view, points, norm, radius):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = judged(view, points(view, norm, radius))
    ours = robust(PGD(radius=radius, norm=norm, steps=STEPS), view)
    assert abs(ours - theirs) <= 0.02
    assert 0.0 < ours < 0.97  # the budget does something and leaves something


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.1), ("l2", 1.0)])
def test_fgsm_is_foolboxs_to_the_image(view, norm, radius):
    theirs = judged(view, foolbox_points(view, norm, radius, single=True))
    assert robust(FGSM(radius=radius, norm=norm), view) == pytest.approx(theirs, abs=1 / 397 + 1e-9)


def test_the_comparison_can_fail(view):
    """One weak step is more than two points away from their twenty."""
    with torch.random.fork_rng():
        theirs = judged(view, foolbox_points(view, "linf", 0.1))
    assert robust(PGD(radius=0.1, steps=1, step_size=0.01), view) > theirs + 0.02


def test_ours_leaves_no_gradients(view):
    robust(PGD(radius=0.1), view)
    assert all(p.grad is None and p.requires_grad for p in view.module.parameters())
