"""Local work of many sites at once: begin, step and finish under ``vmap`` over a site axis.

    stacked (P, d) parameters;  g_p = gradient of the mean loss of site p's own batch;  step and finish per site

A site's batches are those it would draw alone; a short batch is padded with records of weight zero.  Sites with fewer
steps leave the stack when they are done.  So the result is that of one by one, up to the rounding of sums.

Compiled, a few steps are one graph: entering a graph costs as much as a small model's step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from consilium.core.algorithm import Broadcast, Work
from consilium.core.errors import Refused
from consilium.core.frozen import frozen_layers, set_mode
from consilium.core.gradient import Gradient
from consilium.core.update import Update
from consilium.core.workspace import unknown_layers
from consilium.learn.mean_gradient import MeanGradient, shuffled

from .participant import Participant, SiteState

__all__ = ["VectorisedClients", "why_not_vectorised"]

_SHOWN = 3
_SPAN = 4
"""Steps of one compiled graph: half the time of a logistic step was spent entering it; 19 take minutes to compile."""


class VectorisedClients:
    """What one process needs to train stacks of sites like ``model``; ``compiled`` fuses a step's kernels."""

    def __init__(self, model: Participant, compiled: bool = False) -> None:
        self.like, self.algorithm, self.objective = model, model.algorithm, model.objective
        self.module = copy.deepcopy(model.training_inputs.network.template)
        set_mode(self.module, True, frozen_layers(self.module).values())
        self.empty = model.network.start()[1]
        if compiled:
            torch.compiler.reset()  # what an earlier training compiled counts against the limit of this one
        self.span = _SPAN if compiled else 1
        self._advance = torch.compile(self._steps) if compiled else self._steps

    def work(
        self, people: Sequence[Participant], broadcast: Broadcast, states: Mapping[str, SiteState]
    ) -> dict[str, tuple[Update, SiteState]]:
        """Every site's update for one round, and its state after."""
        self.algorithm = self.like.algorithm_in(broadcast.round)
        plans = [(person, _batches(person, broadcast.round)) for person in people]
        plans.sort(key=lambda plan: -len(plan[1]))  # stable: the site that finishes first is last in the stack
        results: dict[str, tuple[Update, SiteState]] = {}
        for stack in self._stacks(plans):
            results |= self._train([p for p, _ in stack], [b for _, b in stack], broadcast, states)
        return results

    def _stacks(self, plans: list[_Plan]) -> Iterator[list[_Plan]]:
        """One stack, or one for each number of planned steps where the algorithm's step depends on it."""
        if not self.algorithm.reads_planned:
            yield plans
            return
        for _, same in groupby(plans, key=lambda plan: len(plan[1])):
            yield list(same)

    def _train(
        self,
        people: list[Participant],
        batches: list[list[Tensor]],
        broadcast: Broadcast,
        states: Mapping[str, SiteState],
    ) -> dict[str, tuple[Update, SiteState]]:
        """Begin and finish site by site, the steps between at once."""
        works = [
            self.algorithm.begin(broadcast, states[p.site.id].algorithm, len(b))
            for p, b in zip(people, batches, strict=True)
        ]
        params = torch.stack([w.params for w in works])
        memory = {name: torch.stack([w.memory[name] for w in works]) for name in works[0].memory}
        stacked = _StackedBatches(people, batches, params.device, self.span)
        for steps, active in _spans([len(b) for b in batches], self.span):
            new, new_memory = self._advance(
                params[:active],
                {name: tensor[:active] for name, tensor in memory.items()},
                stacked.span(steps, active),
                steps.start,
                len(batches[0]),
            )
            params = torch.cat([new, params[active:]]) if active < len(people) else new
            memory = {
                name: torch.cat([tensor, memory[name][active:]]) if active < len(people) else tensor
                for name, tensor in new_memory.items()
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

    def _steps(
        self, params: Tensor, memory: dict[str, Tensor], batches: Sequence[_Stacked], first: int, planned: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Local steps of every site, from the ``first``, one per batch.

        Batches are tensors of their own, not slices of one: so all steps of a graph share their kernels.
        """
        for i, batch in enumerate(batches):
            params, memory = self._step(params, memory, *batch, first + i, planned)
        return params, memory

    def _step(
        self, params: Tensor, memory: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor, steps: int, planned: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One local step of every site: ``params (P, d)``, ``x (P, B, *shape)``, ``weight (P, B)`` sums to 1 each."""

        def loss(named: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
            losses = self.objective.losses(lambda z: functional_call(self.module, named, (z,)), {"x": x, "y": y})
            return (losses * weight).sum()

        def gradient(flat: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
            """By name, then joined: through views of one vector each part's gradient would be padded to all of d."""
            gradients = grad(loss)(self.like.training_inputs.network.parameters_at(flat), x, y, weight)
            return torch.cat([g.reshape(-1) for g in gradients.values()])

        def step(flat: Tensor, memory: dict[str, Tensor], value: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            work = Work(flat, self.empty, steps, planned, memory)
            after = self.algorithm.step(work, Gradient(value, self.empty))
            return after.params, dict(after.memory)

        gradients = vmap(gradient)(params, x, y, weight)
        stepped: tuple[Tensor, dict[str, Tensor]] = vmap(step)(params, memory, gradients)
        return stepped


_Plan = tuple[Participant, list[Tensor]]
_Stacked = tuple[Tensor, Tensor, Tensor]


def _spans(lengths: Sequence[int], most: int) -> Iterator[tuple[range, int]]:
    """The steps in spans of ``most``, and how many sites are in each: ``lengths`` fall, and who is done leaves.

    The remaining steps run one by one, so that only spans of two lengths are ever compiled.
    """
    step = 0
    while step < lengths[0]:
        active = sum(step < length for length in lengths)
        size = most if step + most <= lengths[active - 1] else 1
        yield range(step, step + size), active
        step += size


class _StackedBatches:
    """The batches of a stack: labels and weights of a whole round at once, records of a span into one buffer.

    A short batch (the last of an epoch) ends in padding: a site's first record, with weight zero.
    """

    def __init__(self, people: list[Participant], batches: list[list[Tensor]], device: torch.device, span: int) -> None:
        self.people, self.device = people, device
        size, steps, first = (
            max(len(b) for site_batches in batches for b in site_batches),
            len(batches[0]),
            people[0].training_inputs.records,
        )
        self.rows = torch.zeros(len(people), steps, size, dtype=torch.long)
        self.x = torch.zeros(len(people), span, size, *first.x.shape[1:], dtype=first.x.dtype)
        self.y = torch.zeros(len(people), steps, size, dtype=first.y.dtype)
        self.weight = torch.zeros(len(people), steps, size)
        for i, (person, site_batches) in enumerate(zip(people, batches, strict=True)):
            lengths = torch.tensor([len(rows) for rows in site_batches]).unsqueeze(1)
            there = torch.arange(size) < lengths
            self.rows[i, : len(site_batches)][there] = torch.cat(site_batches)
            self.weight[i, : len(site_batches)] = there / lengths
            torch.index_select(person.training_inputs.records.y, 0, self.rows[i].view(-1), out=self.y[i].view(-1))

    def span(self, steps: range, active: int) -> list[_Stacked]:
        """Of each step ``x (P, B, *shape)``, ``y (P, B)`` and weights alike: 1 / n for n records, 0 for padding."""
        for i in range(active):
            rows = self.rows[i, steps.start : steps.stop].reshape(-1)
            torch.index_select(
                self.people[i].training_inputs.records.x, 0, rows, out=self.x[i].flatten(0, 1)[: len(rows)]
            )
        return [
            (
                self._there(self.x[:active, at]),
                self._there(self.y[:active, step]),
                self._there(self.weight[:active, step]),
            )
            for at, step in enumerate(steps)
        ]

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)


def why_not_vectorised(people: Sequence[Participant]) -> Refused | None:
    """Why these sites cannot be stacked; None if they can."""
    return next((refusal for person in people if (refusal := _why_not(person, people[0])) is not None), None)


def _why_not(person: Participant, first: Participant) -> Refused | None:
    network, kind = person.network, type(person.objective).__name__
    layers = "" if network.draws_nothing else _why_not_layers(network.template)
    reasons = {
        "computes plain mean gradients, and this rule is another": type(person.rule) is not MeanGradient,
        f"prepares no batches and no rounds, as {kind} does": (
            not person.objective.plain or person.objective.reads_broadcast
        ),
        f"trains all sites alike, and {person.site.id} trains otherwise than {first.site.id}": (
            person.objective != first.objective
            or (person.algorithm is not first.algorithm and person.algorithm != first.algorithm)
        ),
        "cannot keep running statistics (BatchNorm) apart": bool(network.start()[1].numel()),
        layers: bool(layers),
        "computes in fp32 and contiguous memory": (
            network.compute.precision != "fp32" or network.compute.layout != "contiguous"
        ),
    }
    why = next((reason for reason, holds in reasons.items() if holds), None)
    return None if why is None else Refused(f"the stacked engine {why}", remedy='use engine = "pool" or "loop"')


def _why_not_layers(module: nn.Module) -> str:
    """Why layers may draw random numbers: of use where some may."""
    odd = {f"{path or 'the model'} ({type(layer).__name__})": layer for path, layer in unknown_layers(module)}
    drawing = [name for name, layer in odd.items() if isinstance(layer, nn.modules.dropout._DropoutNd | nn.RReLU)]
    if drawing:
        return f"takes no layer that draws random numbers, as {drawing[0]} does"
    named = ", ".join([*odd][:_SHOWN]) + (", ..." if len(odd) > _SHOWN else "")
    return f"takes only layers of which it is known that they draw no random number; of these it is not: {named}"


def _batches(person: Participant, number: int) -> list[Tensor]:
    """The rows of every step, exactly those that the site would draw alone."""
    stream = person.stream.child(person.site.id, number, "gradient")
    batches = shuffled(len(person.train), person.schedule, stream)
    return batches[: person.steps(len(batches), number)]
