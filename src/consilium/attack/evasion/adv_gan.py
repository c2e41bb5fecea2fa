"""AdvGAN: a generator learns to perturb; afterwards one forward pass makes any record adversarial.

    minimise over G   -L(f(x + G(x))) + realism * -log D(x + G(x))          D: real public record, or perturbed

G(x) is within the ball by construction; L is the margin towards the goal, cut where it is reached by 1.  Generator and
discriminator are trained on public records against the model's stand-in, and judged on records that they never met: a
perturbation that was merely memorised finds nothing.

Source: Xiao et al. 2018, Generating Adversarial Examples with Adversarial Networks, arXiv 1801.02610.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.entry import check
from consilium.core.records import Records
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import stand_in
from ._fitted import Fitted
from ._networks import Centred, classifier, minibatches, perturber, seeded

__all__ = ["AdvGAN"]

_BATCH, _RATE = 64, 2e-3
_LEAD = 1.0
"""A margin past which a record is fooled well enough."""


@dataclass(frozen=True)
class AdvGAN(Fitted):
    """Trains a generator of perturbations on public records, against a discriminator, and uses it on the test set."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: Norm = "linf"
    """How distance is measured: the largest change of a value, or the Euclidean length of all."""
    steps: int = 500
    """Batches of 64 public records that it is trained on."""
    realism: float = 0.01
    """Weight of looking like an unperturbed record to the discriminator; 0 trains none."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.realism >= 0, "realism", self.realism, "a number of at least 0")

    def fit(self, view: ModelView, public: Records, generator: torch.Generator) -> nn.Module:
        """The generator, trained in turn with the discriminator."""
        model, goal, loss = stand_in(view), self.goal_for(view.task), attack_loss("margin", view.task)
        public = public.select(goal.applies(public.y))
        shape = tuple(public.x.shape[1:])
        centred = Centred(float(public.x.mean()), float(public.x.std(correction=0)))
        network = nn.Sequential(centred, seeded(lambda: perturber(shape), generator).to(public.x.device))
        critic = seeded(lambda: classifier(shape, 1), generator).to(public.x.device)
        ours, theirs = (torch.optim.Adam(net.parameters(), _RATE) for net in (network, critic))
        epochs = -(-self.steps // max(1, -(-len(public) // _BATCH)))
        for rows in islice(minibatches(len(public), _BATCH, epochs, generator), self.steps):
            x, y = public.x[rows], public.y[rows]
            changed = self._changed(network, x)
            reward = goal.climbed(loss, model(changed), y).clamp(max=_LEAD).mean()
            if self.realism:
                reward = reward - self.realism * F.softplus(-critic(changed)).mean()
            _descend(ours, network, -reward)
            if self.realism:
                self._judge(critic, theirs, x, changed.detach())
        return network.eval().requires_grad_(False)

    def perturb(self, fitted: nn.Module, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """One forward pass."""
        with torch.no_grad():
            return self._changed(fitted, x)

    def _changed(self, network: nn.Module, x: Tensor) -> Tensor:
        change: Tensor = self.radius * network(x)
        if self.norm == "linf":
            return (x + change).clamp(0, 1)
        return self.ball().project(x + self.ball().steepest(change) * self.radius, x)

    def _judge(self, critic: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, changed: Tensor) -> None:
        _descend(optimiser, critic, (F.softplus(-critic(x)) + F.softplus(critic(changed))).mean())


def _descend(optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
    """A step of ``network`` alone: the attacked model's ``.grad`` stays as it is."""
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()
