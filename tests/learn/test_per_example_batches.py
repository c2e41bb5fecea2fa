"""Modules that ask for the size of their batch, or mix it backwards alone: found, or taken one record at a time."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Unlawful
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.workspace import unknown_layers
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import clipped_sum, dispatch
from consilium.learn.per_example.bookkeeping import BookKeeping
from consilium.learn.per_example.independence import dependence, varied
from consilium.learn.per_example.one_by_one import OneByOne
from consilium.learn.per_example.undrawn import Undrawn
from consilium.learn.tasks.single_label import SingleLabel
from consilium.learn.user_code.custom_code import custom_layers, has_custom_code

D, N, CLIP = 12, 64, 0.1


class Around(nn.Module):
    """Two layers, and a function of what is between and of the inputs."""

    def __init__(self, before=None, between=None):
        super().__init__()
        self.first, self.second = nn.Linear(D, 8), nn.Linear(8, 2)
        self.before, self.between = before or keep, between or keep

    def forward(self, x):
        return self.second(self.between(self, self.first(self.before(self, x))).relu())


def keep(self, x):
    return x


def above(size):
    """Takes the largest of the batch away, in training, where it has more than ``size`` records."""

    def before(self, x):
        return x - x.max(0, keepdim=True).values if self.training and len(x) > size else x

    return before


def exactly(size):
    def before(self, x):
        return x - x.mean(0, keepdim=True) if self.training and len(x) == size else x

    return before


def winsorised(self, x):
    return x.clamp(max=x.quantile(0.999)) if len(x) > 3 else x


class Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient / (gradient.norm() + 1e-9)


def normalised(self, x):
    return Normalised.apply(x)


def hooked(self, x):
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient / (gradient.norm() + 1e-9))
    return x


def network(before=None, between=None, seed=0):
    with scoped(Stream(seed)):
        return Network(Around(before, between))


def batch(n=N, outlier=1.0):
    """Dark records, and a bright one in front with another label."""
    with scoped(Stream(1)):
        x, y = torch.rand(n, D) * 0.05, torch.zeros(n, dtype=torch.long)
    x[0], y[0] = outlier, 1
    return {"x": x, "y": y}


def total(net, records):
    with scoped(Stream(2)):
        return clipped_sum(net, *net.start(), TaskLoss(SingleLabel()), records, CLIP)


def rows(records, chosen):
    return {name: tensor[chosen] for name, tensor in records.items()}


MIXING = {
    "above 8": (above(8), None),
    "above 60": (above(60), None),
    "quantile": (winsorised, None),
    "a backward pass of its own": (None, normalised),
    "a tensor's hook": (None, hooked),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", MIXING)
def test_the_clipped_sum_is_that_of_single_records_and_moves_by_no_more_than_its_sensitivity(name, seed):
    net, records = network(*MIXING[name], seed), batch()
    whole = total(net, records)
    singles = sum(total(net, rows(records, slice(i, i + 1))).value for i in range(N))
    torch.testing.assert_close(whole.value, singles, rtol=1e-4, atol=1e-5)
    less = total(net, rows(records, slice(1, None)))
    moved = float(torch.linalg.vector_norm(whole.value - less.value))
    assert moved <= whole.sensitivity("add-or-remove-one") * (1 + 1e-4)


def test_books_kept_of_a_module_that_mixes_break_the_bound():
    """What the comparison above would show, if such a module were believed."""
    net, records = network(above(8)), batch()
    at = net.start()
    books = BookKeeping(net)
    whole, less = (_unchecked(books, at, part) for part in (records, rows(records, slice(1, None))))
    assert float(torch.linalg.vector_norm(whole - less)) > 5 * CLIP


def _unchecked(books, at, records):
    from consilium.learn.per_example import clipping
    from consilium.learn.per_example.units import Part

    part = Part(records, torch.arange(len(records["x"])))
    sums = torch.zeros_like(at[0])
    entries, squares = clipping._evaluate(books, *at, TaskLoss(SingleLabel()), part)
    clipping._add(sums, books, entries, clipping._factors(squares, "flat", CLIP))
    return sums


@pytest.mark.parametrize("name", MIXING)
def test_dp_sgd_refuses_such_a_module_at_the_plan(name):
    with pytest.raises(Unlawful, match=r"in batches of \d+ .*depends? on the other examples|not the sum"):
        rule().refuse(network(*MIXING[name]), (D,))


def rule():
    return DPSGD(noise_multiplier=1.0, delta=1e-3).rule(MeanGradient())


def test_a_size_that_nobody_tried_is_found_in_the_training_itself():
    net = network(exactly(41))
    rule().refuse(net, (D,))  # a test, not a proof: 41 is no size class
    assert total(net, batch(40)).value.any()
    with pytest.raises(Unlawful, match=r"in a training batch of 41 records the gradients of single records depend"):
        total(net, batch(41))


def test_a_rare_value_is_found_in_the_training_itself():
    def rare(self, x):
        return x - x.mean(0, keepdim=True) if bool(((x > 0.3) & (x < 0.3001)).any()) else x

    net = network(rare)
    assert total(net, batch(outlier=0.2)).value.any()
    with pytest.raises(Unlawful, match="depend on the others"):
        for n in range(50, 60):
            total(net, batch(n, outlier=0.30005))


LET_THROUGH = {
    "dropout": lambda m, x: F.dropout(x, 0.5, m.training),
    "noise": lambda m, x: x + 0.1 * torch.randn_like(x) if m.training else x,
    "a coin per record": lambda m, x: x * (torch.rand(len(x), 1) > 0.3) if m.training else x,
    "branches per record": lambda m, x: torch.where(x[:, :1] > 0.3, x, 2 * x),
    "sorted within": lambda m, x: x.sort(1).values,
}


@pytest.mark.parametrize("name", LET_THROUGH)
def test_what_is_of_one_record_alone_keeps_its_books(name):
    net = network(LET_THROUGH[name])
    rule().refuse(net, (D,))
    for n in (3, 40, 41, 64):
        total(net, batch(n))
    assert isinstance(dispatch._known[net], BookKeeping)


def test_the_check_leaves_the_draws_of_the_training_as_they_were():
    net, records = network(LET_THROUGH["dropout"]), batch()
    first, again = total(net, records).value, total(net, records).value  # the first compares, the second does too
    third = total(net, records).value  # and this one does not
    assert torch.equal(first, again) and torch.equal(first, third)


@pytest.mark.parametrize("name", ["a backward pass of its own", "a tensor's hook"])
def test_a_backward_pass_that_cannot_be_read_goes_one_by_one_and_the_log_says_why(name, caplog):
    net = network(*MIXING[name])
    total(net, batch())
    assert isinstance(dispatch._known[net], OneByOne)
    assert any(
        "go one by one: " in message and ("backward" in message or "hook" in message) for message in caplog.messages
    )


def test_answers_of_a_record_and_gradients_are_told_apart():
    for parts, reason in ((MIXING["above 8"], "in batches of 9 an answer"), (MIXING["a tensor's hook"], "gradient")):
        net = network(*parts)
        with scoped(Stream(3)):
            assert reason in dependence(net, *net.start(), varied((D,)))
    net = network()
    with scoped(Stream(3)):
        assert dependence(net, *net.start(), varied((D,))) is None


def test_custom_code_is_what_is_neither_of_torch_nor_of_the_house():
    plain = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    assert not has_custom_code(plain)
    assert next(unknown_layers(plain), None) is not None  # dropout draws, and is torch's own all the same
    assert [path for path, _ in custom_layers(nn.Sequential(plain, Around()))] == ["1"]
    hook = nn.Linear(2, 2)
    hook.register_forward_hook(lambda layer, args, out: out)
    assert has_custom_code(hook)
    other = nn.Linear(2, 2)
    other.forward = lambda x: x
    assert has_custom_code(other)


def test_without_draws_a_record_is_given_what_a_batch_is():
    with Undrawn():
        assert torch.equal(torch.randn(3), torch.full((3,), 0.5))
        assert torch.equal(torch.empty(4).bernoulli_(0.1), torch.ones(4))
        assert torch.equal(torch.randperm(4), torch.arange(4))
        assert torch.equal(F.dropout(torch.full((2,), 3.0), 0.9, True), torch.full((2,), 3.0))
        attention = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)
        x = torch.full((2, 3, 4), 0.1)
        assert torch.equal(attention(x, x, x)[0], attention(x, x, x)[0])
    assert len(torch.randn(50).unique()) == 50
