"""One step of DP-SGD, and of SGD beside it, by everyone who is compared: the same module, the same sampled records.

A step is everything between two states of the weights: drawing the sample, forward, backward, norms, clipping, noise
and update.  Consilium's is that of its own rule (``dp-sgd``) with a plain SGD update; Opacus' is ``DPOptimizer`` around
``torch.optim.SGD``.  Both draw Gaussian noise of deviation C over every parameter.  Everybody steps on the records that
Consilium's Poisson sample has drawn.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.core.workspace import Compute
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import clipped_sum
from consilium.learn.per_example.by_vmap import ByVmap
from consilium.learn.per_example.dispatch import remember
from consilium.learn.tasks.single_label import SingleLabel

Step = Callable[[int], None]
LR = 0.05


@dataclass(frozen=True)
class Task:
    """``module()`` on inputs of ``shape`` in expected batches of ``batch``; with ``tokens``, whole numbers below it."""

    name: str
    module: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    classes: int = 10
    tokens: int = 0

    def built(self) -> nn.Module:
        """The same weights for everybody."""
        with scoped(Stream(0, ("module", self.name))):
            return self.module()

    def records(self) -> Records:
        """Ten batches of made-up records."""
        with scoped(Stream(0, ("records", self.name))):
            n = 10 * self.batch
            x = torch.randint(self.tokens, (n, *self.shape)) if self.tokens else torch.rand(n, *self.shape)
            return Records.of(x, torch.randint(self.classes, (n,)))

    def sample(self, records: Records, step: int) -> Tensor:
        """The positions that Consilium's rule draws at ``step``."""
        coins = Stream(0, ("bench",)).child("step", step).child("sample").coins(len(records), self.batch / len(records))
        return torch.nonzero(coins)[:, 0]


def plain(task: Task, last: bool, mark: Callable[[], None] = lambda: None) -> Step:
    """What a good user writes, contiguous or channels-last; ``mark`` is called before and after each of its phases."""
    records, model = task.records(), task.built().train()
    if last and not any(p.dim() == 5 for p in model.parameters()):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(model.parameters(), lr=LR)

    def step(number: int) -> None:
        mark()
        index = task.sample(records, number)
        x, y = records.x[index], records.y[index]
        # A group norm that meets the inputs ends the process in torch 2.13 where they are channels-last.
        images = x.dim() == 4 and task.name != "GroupNorm"
        x = x.contiguous(memory_format=torch.channels_last) if last and images else x
        optimiser.zero_grad()
        loss = F.cross_entropy(model(x), y)
        mark()
        loss.backward()
        mark()
        optimiser.step()
        mark()

    return step


def consilium(task: Task, last: bool, vmapped: bool = False) -> Step:
    """The product's own rule; with ``vmapped`` the road that every network took before."""
    records = task.records()
    network = Network(task.built(), Compute(layout="channels-last" if last else "contiguous"))
    if vmapped:
        remember(network, ByVmap(network))
    params, buffers = network.start()
    gradient = _tokens(task, records, network) if task.tokens else _rule(task, records, network)

    def step(number: int) -> None:
        nonlocal params
        params = params - LR * gradient(params, buffers, number)

    return step


def _rule(task: Task, records: Records, network: Network) -> Callable[[Tensor, Tensor, int], Tensor]:
    rule = DPSGD(noise_multiplier=1.0, clip=1.0).rule(MeanGradient())
    schedule = Schedule(rounds=1, epochs=1, batch=task.batch)
    oracle = rule.oracle(records, network, TaskLoss(SingleLabel()), schedule, Stream(0, ("bench",)))
    return lambda params, buffers, _: oracle(params, buffers).value


def _tokens(task: Task, records: Records, network: Network) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The same by hand: the rule probes a network with real numbers, and an embedding takes none."""

    def gradient(params: Tensor, buffers: Tensor, number: int) -> Tensor:
        index, own = task.sample(records, number), Stream(0, ("bench",)).child("step", number)
        batch = {"x": records.x[index], "y": records.y[index]}
        with scoped(own.child("forward")):
            total = clipped_sum(network, params, buffers, TaskLoss(SingleLabel()), batch, 1.0)
        return own.child("noise").noised(total.value, total.sensitivity("add-or-remove-one")) / task.batch

    return gradient


def opacus(task: Task, ghost: bool) -> Step:
    """Opacus with its hooks, or its ghost clipping."""
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
    from opacus.validators import ModuleValidator

    records, bare = task.records(), ModuleValidator.fix(copy.deepcopy(task.built())).train()
    module = GradSampleModuleFastGradientClipping(bare, max_grad_norm=1.0) if ghost else GradSampleModule(bare)
    kind = DPOptimizerFastGradientClipping if ghost else DPOptimizer
    optimiser = kind(
        torch.optim.SGD(module.parameters(), lr=LR),
        noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=task.batch,
    )  # fmt: skip
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    if ghost:
        loss = DPLossFastGradientClipping(module, optimiser, nn.CrossEntropyLoss())

    def step(number: int) -> None:
        index = task.sample(records, number)
        optimiser.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss(module(records.x[index]), records.y[index]).backward()
        optimiser.step()

    return step


METHODS: dict[str, Callable[[Task], Step]] = {
    "plain": lambda task: plain(task, last=False),
    "plain, channels-last": lambda task: plain(task, last=True),
    "Consilium": lambda task: consilium(task, last=True),
    "Consilium, by vmap": lambda task: consilium(task, last=False, vmapped=True),
    "Opacus hooks": lambda task: opacus(task, ghost=False),
    "Opacus ghost": lambda task: opacus(task, ghost=True),
}
