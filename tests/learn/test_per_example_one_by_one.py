"""What vmap cannot carry goes one example after the other, with the same gradients as autograd's own."""

import runpy
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import clipped_sum, dispatch, per_example_norms
from consilium.learn.per_example.by_vmap import ByVmap
from consilium.learn.per_example.one_by_one import OneByOne
from consilium.learn.per_example.units import Part
from consilium.learn.tasks.single_label import SingleLabel

layers = runpy.run_path(str(Path(__file__).with_name("layer_problem.py")))
Dot, N, close, problem = (layers[name] for name in ("Dot", "N", "close", "problem"))


class Recurrent(nn.Module):
    """A GRU writes in place, which vmap cannot follow."""

    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.layer, self.out = kind(4, 3, batch_first=True), nn.Linear(3, 4)

    def forward(self, x):
        return self.out(self.layer(x)[0][:, -1])


class Branching(nn.Module):
    """Looks at the values of its input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        rows = [self.layer(row) if row.sum().item() > 0 else 2 * self.layer(row) for row in x]
        return torch.stack(rows) + x.mean(0) * 0


BY_ONE = {"GRU": (Recurrent, (5, 4)), "branches": (Branching, (4,))}


@pytest.mark.parametrize("kind", BY_ONE)
def test_what_vmap_cannot_carry_goes_one_by_one(kind, caplog):
    make, shape = BY_ONE[kind]
    network, params, buffers, batch = problem(make(), shape)
    dispatch._known.pop(network, None)
    chosen = dispatch._slowly(network, "a test", params, buffers, batch["x"])
    assert isinstance(chosen, OneByOne)
    assert "go one by one, which is slow: a test; vmap fails" in caplog.messages[-1]
    dispatch._known[network] = chosen
    norms = per_example_norms(network, params, buffers, Dot(), batch)
    gradients = []
    for i in range(N):
        at = params.clone().requires_grad_()
        one = {name: t[i : i + 1] for name, t in batch.items()}
        loss = Dot().losses(lambda x, at=at: network.logits(at, buffers, x, training=True), one)
        gradients.append(torch.autograd.grad(loss.sum(), at)[0])
        close(norms[i], gradients[-1].norm())
    clip = float(norms.median())
    wanted = sum(g * min(1.0, clip / float(g.norm())) for g in gradients)
    close(clipped_sum(network, params, buffers, Dot(), batch, clip).value, wanted)
    close(clipped_sum(network, params, buffers, Dot(), batch, clip, chunk=2).value, wanted)


def test_a_gru_is_found_to_need_it():
    network, params, buffers, batch = problem(Recurrent(), (5, 4))
    per_example_norms(network, params, buffers, Dot(), batch)
    assert isinstance(dispatch._known[network], OneByOne)


def test_units_of_several_records_go_one_by_one_too():
    network, params, buffers, batch = problem(Recurrent(), (5, 4))
    unit = torch.arange(N) // 2
    norms = per_example_norms(network, params, buffers, Dot(), batch, unit=unit)
    for i in range(len(norms)):
        at, mine = params.clone().requires_grad_(), unit == i
        own = {name: t[mine] for name, t in batch.items()}
        losses = Dot().losses(lambda x, at=at: network.logits(at, buffers, x, training=True), own)
        close(norms[i], torch.autograd.grad(losses.mean(), at)[0].norm())


class Telling(nn.Module):
    """Once it is ``loud``, warns as torch does of a kernel without a batching rule, and of something else."""

    loud = False

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        if self.loud:
            warnings.warn("There is a performance drop because we have not yet implemented this", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        return self.layer(x)


def test_vmap_tells_nothing_of_kernels_that_go_one_by_one(monkeypatch):
    """The warning named a path of the machine on which torch was built, once in every process."""
    network, params, buffers, batch = problem(Telling(), (4,))
    batch = {**batch, "y": torch.arange(N) % 4}
    monkeypatch.setattr(Telling, "loud", True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ByVmap(network).entries(params, buffers, TaskLoss(SingleLabel()), Part(batch, torch.arange(N)))
    assert {str(one.message) for one in told} == {"something else"}
