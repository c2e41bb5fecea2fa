"""The ordinary rule: every record once an epoch, and the gradient of the mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel


class Recording(TaskLoss):
    """Remembers what it was shown."""

    def prepare(self, predict, x, y, generator):
        SEEN.append(x[:, 0].clone())
        return super().prepare(predict, x, y, generator)


SEEN: list[torch.Tensor] = []


def oracle(objective, epochs=2, batch=4, module=None):
    records = Records.of(torch.arange(30).view(10, 3) / 30, torch.arange(10) % 2)
    network = Network(module or nn.Linear(3, 2))
    rule = MeanGradient()
    made = rule.oracle(records, network, objective, Schedule(1, epochs, batch), Stream(0))
    return made, network, records


def test_every_record_is_seen_once_an_epoch_in_another_order() -> None:
    SEEN.clear()
    made, network, records = oracle(Recording(SingleLabel()))
    assert made.steps == 6
    for _ in range(made.steps):
        made(*network.start())
    assert [len(b) for b in SEEN] == [4, 4, 2, 4, 4, 2]
    first, second = torch.cat(SEEN[:3]), torch.cat(SEEN[3:])
    assert torch.equal(first.sort().values, records.x[:, 0])
    assert torch.equal(second.sort().values, records.x[:, 0])
    assert not torch.equal(first, second)


def test_gradient_is_that_of_the_mean_loss() -> None:
    made, network, records = oracle(TaskLoss(SingleLabel()), epochs=1, batch=0)
    params, buffers = network.start()
    module = nn.Linear(3, 2)
    module.load_state_dict(network.module_at(params, buffers).state_dict())
    F.cross_entropy(module(records.x), records.y).backward()
    expected = torch.cat([module.weight.grad.reshape(-1), module.bias.grad])
    torch.testing.assert_close(made(params, buffers).value, expected)
    assert made.charge() is None
    assert MeanGradient().step_charge(10, Schedule(1, 1, 4)) is None


def test_dropout_follows_the_stream_and_leaves_the_global_generator_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 32), nn.Dropout(0.5), nn.Linear(32, 2))
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    values = []
    for _ in range(2):
        made, network, _ = oracle(TaskLoss(SingleLabel()), module=module)
        values.append(made(*network.start()).value)
        torch.random.set_rng_state(before)
    assert torch.equal(*values)
    made, network, _ = oracle(TaskLoss(SingleLabel()), module=module)
    state = torch.random.get_rng_state()
    one, other = made(*network.start()).value, made(*network.start()).value
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(one, other)
