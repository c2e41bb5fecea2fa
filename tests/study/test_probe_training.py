"""What a user's module does in training alone, and its hooks, found before anything trains."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.study.build.probe import probed

SHAPE, CLASSES = (1, 8, 8), 10


def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))


class Around(nn.Module):
    """A linear layer and a function of it and x, with a place for state."""

    def __init__(self, forward):
        super().__init__()
        self.layer, self.how, self.calls = nn.Linear(64, CLASSES), forward, 0

    def forward(self, x):
        return self.how(self, x.flatten(1))


def built(make):
    with scoped(Stream(5)):
        return make()


def with_hook(module):
    module.register_forward_hook(lambda layer, args, out: out * 2)
    return module


def tripled_in_training(self, x):
    self.calls += self.training
    return self.layer(x)


def listed(self, x):
    """Remembers where no attribute of the layer is."""
    if self.training:
        CALLS.append(1)
    return self.layer(x) * (1 + len(CALLS))


CALLS = []


def numpy_noise(self, x):
    return self.layer(x) + (np.random.randn() if self.training else 0)


def stopped_gradients():
    module = flat()
    module[1].weight.register_hook(lambda gradient: gradient * 0)
    return module


def hooked_after_the_sum():
    module = flat()
    module[1].bias.register_post_accumulate_grad_hook(lambda p: None)
    return module


def scripted():
    with pytest.warns(DeprecationWarning):
        return torch.jit.script(flat())


def tokens(**knobs):
    return nn.Sequential(nn.Flatten(), Coded(), nn.Embedding(17, 4, **knobs), nn.Flatten(), nn.Linear(256, CLASSES))


class Coded(nn.Module):
    def forward(self, x):
        return (x * 16).long()


REFUSED = {
    "a count in training": (lambda: Around(tripled_in_training), r"changes self\.calls in training mode", "buffer"),
    "a list elsewhere": (
        lambda: Around(listed),
        "in training mode the model answers the same input",
        "draw from torch",
    ),
    "draws of numpy": (lambda: Around(numpy_noise), "draws from another generator than torch's", "draw from torch"),
    "a gradient hook": (stopped_gradients, r"hook on the gradient of 1\.weight would never run", "forward"),
    "a hook after": (hooked_after_the_sum, r"hook on the gradient of 1\.bias would never run", "forward"),
    "scripted": (scripted, r"scripted or traced module \(torch\.jit\)", "eager module"),
    "sparse gradients": (lambda: tokens(sparse=True), r"layer 2 \(Embedding\) has sparse gradients", "sparse=False"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_go_wrong_in_training_is_refused_by_name(name):
    make, reason, remedy = REFUSED[name]
    with pytest.raises(Refused, match=reason) as refused:
        probed(built(make), SHAPE, CLASSES, trained=True, again=lambda: built(make))
    assert refused.value.where == "model"
    assert re.search(remedy, refused.value.remedy), refused.value.remedy


def without_input_gradient(self, x):
    return self.layer((x * 4).round())


def test_a_model_that_passes_no_gradient_to_its_inputs_is_refused_where_training_follows_it():
    module = built(lambda: Around(without_input_gradient))
    probed(module, SHAPE, CLASSES, trained=True)
    with pytest.raises(Refused, match="no gradient reaches the inputs") as refused:
        probed(module, SHAPE, CLASSES, trained=True, followed=True)
    assert "round" in refused.value.remedy


def test_a_hook_that_draws_is_given_the_draws_of_its_step():
    network = probed(built(flat), SHAPE, CLASSES, trained=True)
    assert network.draws_nothing
    assert not probed(with_hook(built(flat)), SHAPE, CLASSES, trained=True).draws_nothing
