"""Local work of many sites at once: begin, step and finish under ``vmap`` over a site axis.

    stacked (P, d) parameters;  g_p = gradient of the mean loss of site p's own batch;  step and finish per site

A site's batches are those it would draw alone; a short batch is padded with records of weight zero.  Sites with fewer
steps leave the stack when they are done.  So the result is that of one by one, up to the rounding of sums.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from consilium.core.algorithm import Broadcast, Work
from consilium.core.errors import Refused
from consilium.core.gradient import Gradient
from consilium.core.update import Update
from consilium.learn.mean_gradient import MeanGradient, shuffled

from .participant import Participant, SiteState

__all__ = ["Together", "why_not_together"]


class Together:
    """What one process needs to train stacks of sites like ``model``; ``compiled`` fuses a step's kernels."""

    def __init__(self, model: Participant, compiled: bool = False) -> None:
        self.like, self.algorithm, self.objective = model, model.algorithm, model.objective
        self.module = copy.deepcopy(model.lesson.network.template).train()
        self.empty = model.network.start()[1]
        if compiled:
            torch.compiler.reset()  # what an earlier training compiled counts against the limit of this one
        self._advance = torch.compile(self._step) if compiled else self._step

    def work(
        self, people: Sequence[Participant], broadcast: Broadcast, states: Mapping[str, SiteState]
    ) -> dict[str, tuple[Update, SiteState]]:
        """Every site's update for one round, and its state after."""
        self.algorithm = self.like.algorithm_in(broadcast.round)
        plans = [(person, _batches(person, broadcast.round)) for person in people]
        plans.sort(key=lambda plan: -len(plan[1]))  # stable: who is done first stands last in the stack
        done: dict[str, tuple[Update, SiteState]] = {}
        for stack in self._stacks(plans):
            done |= self._trained([p for p, _ in stack], [b for _, b in stack], broadcast, states)
        return done

    def _stacks(self, plans: list[_Plan]) -> Iterator[list[_Plan]]:
        """One stack, or one for each number of planned steps where the algorithm's step depends on it."""
        if not self.algorithm.reads_planned:
            yield plans
            return
        for _, same in groupby(plans, key=lambda plan: len(plan[1])):
            yield list(same)

    def _trained(
        self,
        people: list[Participant],
        batches: list[list[Tensor]],
        broadcast: Broadcast,
        states: Mapping[str, SiteState],
    ) -> dict[str, tuple[Update, SiteState]]:
        """Begin and finish site by site, the steps between at once."""
        works = [
            self.algorithm.begin(broadcast, states[p.site.id].kept, len(b))
            for p, b in zip(people, batches, strict=True)
        ]
        params = torch.stack([w.params for w in works])
        memory = {name: torch.stack([w.memory[name] for w in works]) for name in works[0].memory}
        drawn = _Drawn(people, batches, params.device)
        for step in range(len(batches[0])):
            active = sum(step < len(b) for b in batches)
            new, held = self._advance(
                params[:active],
                {name: tensor[:active] for name, tensor in memory.items()},
                *drawn.batch(step, active),
                step,
                len(batches[0]),
            )
            params = torch.cat([new, params[active:]]) if active < len(people) else new
            memory = {
                name: torch.cat([tensor, memory[name][active:]]) if active < len(people) else tensor
                for name, tensor in held.items()
            }
        return {
            person.site.id: person.leave(
                broadcast,
                Work(params[i], w.buffers, len(b), w.planned, {name: tensor[i] for name, tensor in memory.items()}),
                states[person.site.id],
                None,
            )
            for i, (person, w, b) in enumerate(zip(people, works, batches, strict=True))
        }

    def _step(
        self, params: Tensor, memory: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor, steps: int, planned: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One local step of every site: ``params (P, d)``, ``x (P, B, *shape)``, ``weight (P, B)`` sums to 1 each."""

        def loss(flat: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
            named = self.like.lesson.network.parameters_at(flat)
            losses = self.objective.losses(lambda z: functional_call(self.module, named, (z,)), {"x": x, "y": y})
            return (losses * weight).sum()

        def step(flat: Tensor, held: dict[str, Tensor], gradient: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            work = Work(flat, self.empty, steps, planned, held)
            after = self.algorithm.step(work, Gradient(gradient, self.empty))
            return after.params, dict(after.memory)

        gradients = vmap(grad(loss))(params, x, y, weight)
        stepped: tuple[Tensor, dict[str, Tensor]] = vmap(step)(params, memory, gradients)
        return stepped


_Plan = tuple[Participant, list[Tensor]]


class _Drawn:
    """The batches of a stack: labels and weights of all steps at once, records step by step into one buffer.

    A short batch ends in padding: what stood there before, with weight zero.
    """

    def __init__(self, people: list[Participant], batches: list[list[Tensor]], device: torch.device) -> None:
        self.people, self.batches, self.device = people, batches, device
        size, steps, first = max(len(b) for own in batches for b in own), len(batches[0]), people[0].lesson.records
        self.x = torch.zeros(len(people), size, *first.x.shape[1:], dtype=first.x.dtype)
        self.y = torch.zeros(steps, len(people), size, dtype=first.y.dtype)
        self.weight = torch.zeros(steps, len(people), size)
        for i, (person, own) in enumerate(zip(people, batches, strict=True)):
            lengths = torch.tensor([len(rows) for rows in own]).unsqueeze(1)
            there = torch.arange(size) < lengths
            self.y[: len(own), i][there] = person.train.y[torch.cat(own)]
            self.weight[: len(own), i] = there / lengths

    def batch(self, step: int, active: int) -> tuple[Tensor, Tensor, Tensor]:
        """``x (P, B, *shape)``, ``y (P, B)`` and weights ``(P, B)``: 1 / n for n records, 0 for padding."""
        for i in range(active):
            rows = self.batches[i][step]
            torch.index_select(self.people[i].lesson.records.x, 0, rows, out=self.x[i, : len(rows)])
        return self._there(self.x[:active]), self._there(self.y[step, :active]), self._there(self.weight[step, :active])

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)


def why_not_together(people: Sequence[Participant]) -> Refused | None:
    """Why these sites cannot be stacked; None if they can."""
    remedy = 'use engine = "pool" or "loop"'
    for person in people:
        network = person.network
        if type(person.rule) is not MeanGradient:
            return Refused("the stacked engine computes plain mean gradients, and this rule is another", remedy=remedy)
        if not person.objective.plain:
            kind = type(person.objective).__name__
            return Refused(f"the stacked engine cannot prepare batches one by one, as {kind} does", remedy=remedy)
        if network.start()[1].numel():
            return Refused("the stacked engine cannot keep running statistics (BatchNorm) apart", remedy=remedy)
        if not network.draws_nothing:
            return Refused("the stacked engine takes no layer that draws random numbers (Dropout)", remedy=remedy)
        if network.compute.precision != "fp32" or network.compute.layout != "contiguous":
            return Refused("the stacked engine computes in fp32 and contiguous memory", remedy=remedy)
    return None


def _batches(person: Participant, number: int) -> list[Tensor]:
    """The rows of every step, exactly those that the site would draw alone."""
    stream = person.stream.child(person.site.id, number, "gradient")
    batches = shuffled(len(person.train), person.schedule, stream)
    return batches[: person.steps(len(batches), number)]
