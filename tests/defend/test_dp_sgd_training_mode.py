"""DP-SGD takes gradients one example at a time: what mixes a batch in training mode would be another model there."""

import pytest
import torch
from torch import nn

from consilium.core.errors import Unlawful
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.mean_gradient import MeanGradient


def rule():
    return DPSGD(noise_multiplier=1.0, delta=1e-3).rule(MeanGradient())


def network(module):
    with scoped(Stream(0)):
        return Network(module)


class InTraining(nn.Module):
    """Changes its batch in training mode alone."""

    def __init__(self, how, dropout=0.0):
        super().__init__()
        self.how, self.layer, self.dropout = how, nn.Linear(64, 3), nn.Dropout(dropout)

    def forward(self, x):
        x = self.dropout(x.flatten(1))
        return self.layer(self.how(x) if self.training else x)


MIXING = {
    "batch mean": lambda x: x - x.mean(0, keepdim=True),
    "mixup": lambda x: 0.5 * x + 0.5 * x.flip(0),
    "sorted": lambda x: x[x[:, 20].argsort()],
}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("name", MIXING)
def test_a_module_that_mixes_examples_in_training_alone_is_refused(name, dropout):
    net = network(InTraining(MIXING[name], dropout))
    with pytest.raises(Unlawful, match="in training mode an answer depends on the other examples") as refused:
        rule().refuse(net, (1, 8, 8))
    assert "each example alone" in refused.value.remedy


def test_an_answer_that_depends_on_the_place_in_the_batch_is_refused():
    net = network(InTraining(lambda x: x + torch.arange(len(x))[:, None]))
    with pytest.raises(Unlawful, match="its place among them"):
        rule().refuse(net, (1, 8, 8))


@pytest.mark.parametrize("how", [lambda x: x, lambda x: x + 0.1 * torch.randn_like(x), lambda x: x.flip(1)])
def test_draws_and_changes_of_one_example_alone_are_let_through(how):
    rule().refuse(network(InTraining(how, 0.5)), (1, 8, 8))
