"""A user's own layer brings its own rule: a right one is used and proved, a wrong one is refused by name."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import (
    FormedGradients,
    LayerRule,
    clipped_sum,
    dispatch,
    layer_rule,
    per_example_norms,
    register,
)
from consilium.learn.per_example.bookkeeping import BookKeeping, rules_of
from consilium.learn.per_example.by_vmap import ByVmap
from consilium.learn.tasks.single_label import SingleLabel

layers = runpy.run_path(str(Path(__file__).with_name("layer_problem.py")))
Dot, close, problem = (layers[name] for name in ("Dot", "close", "problem"))


class Scale(nn.Module):
    """A user's own layer: one factor a feature."""

    def __init__(self, width=4):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.factor


class ScaleRule(LayerRule):
    """dL/dfactor = sum over positions of g x."""

    parameters = frozenset({"factor"})

    def gradients(self, calls, n):
        rows = [(call.output_gradient * call.input).reshape(n, -1, self.layer.factor.numel()).sum(1) for call in calls]
        return FormedGradients([sum(rows)])


class ForgetsInput(ScaleRule):
    """Wrong norms."""

    def gradients(self, calls, n):
        return FormedGradients([sum(call.output_gradient.reshape(n, -1, 4).sum(1) for call in calls)])


class WrongSign(ScaleRule):
    """Right norms, another sum."""

    def gradients(self, calls, n):
        return FormedGradients([-super().gradients(calls, n).gradients[0]])


class WrongShape(ScaleRule):
    """Breaks in the proof."""

    def gradients(self, calls, n):
        return FormedGradients([])


class Net(nn.Module):
    """The layer between two of torch's."""

    def __init__(self):
        super().__init__()
        self.first, self.own, self.last = nn.Linear(4, 4), Scale(), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.own(torch.tanh(self.own(self.first(x))))))


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """As it was, after each test."""
    monkeypatch.setattr(layer_rule, "_RULES", {layer: list(rules) for layer, rules in layer_rule._RULES.items()})


def settled(module, shape=(4,)):
    network, params, buffers, batch = problem(module, shape)
    norms = per_example_norms(network, params, buffers, Dot(), batch)
    return network, params, buffers, batch, norms


def test_without_a_rule_the_layer_goes_by_vmap():
    network, *_ = settled(Net())
    assert dispatch._known[network].by_vmap == ["own"]


def test_a_right_rule_is_used_and_agrees_with_vmap():
    register(Scale)(ScaleRule)
    network, params, buffers, batch, norms = settled(Net(), (2, 4))
    books = dispatch._known[network]
    assert isinstance(books, BookKeeping) and not books.by_vmap
    assert books.outside == ["ScaleRule of own"]
    clip = float(norms.median())
    ours = clipped_sum(network, params, buffers, Dot(), batch, clip).value
    dispatch._known[network] = ByVmap(network)
    close(norms, per_example_norms(network, params, buffers, Dot(), batch))
    close(ours, clipped_sum(network, params, buffers, Dot(), batch, clip).value)


@pytest.mark.parametrize("rule", [ForgetsInput, WrongSign, WrongShape])
def test_a_wrong_rule_is_refused_by_name(rule):
    register(Scale)(rule)
    with pytest.raises(Refused, match=f"{rule.__name__} of own gives other per-example gradients") as refused:
        settled(Net())
    assert "do not register" in refused.value.remedy


def test_dp_sgd_refuses_a_wrong_rule_before_it_releases_anything():
    register(Scale)(ForgetsInput)
    with scoped(Stream(0)):
        network = Network(Net())
    rule = DPSGD(noise_multiplier=1.0, delta=1e-3).rule(MeanGradient())
    records = Records.of(torch.rand(40, 4), torch.randint(3, (40,)))
    oracle = rule.oracle(records, network, TaskLoss(SingleLabel()), Schedule(1, 1, 0), Stream(1))
    with pytest.raises(Refused, match="ForgetsInput"):
        oracle(*network.start())


class Past(Net):
    """Uses a parameter past its layer, which is not the rule's fault."""

    def forward(self, x):
        return super().forward(x) + self.last(x * self.own.factor)


def test_a_right_rule_in_a_network_that_cannot_be_kept_in_books_is_not_refused():
    register(Scale)(ScaleRule)
    network, *_ = settled(Past())
    assert isinstance(dispatch._known[network], ByVmap)


def test_a_rule_covers_its_very_type_without_hooks_or_added_parameters():
    class Derived(Scale):
        def forward(self, x):
            return 2 * super().forward(x)

    register(Scale)(ScaleRule)
    hooked, extended = Scale(), Scale()
    hooked.register_forward_pre_hook(lambda module, args: None)
    extended.more = nn.Parameter(torch.ones(1))
    kinds = [type(rules_of(layer)[0]).__name__ for layer in (Scale(), Derived(), hooked, extended)]
    assert kinds == ["ScaleRule", "AnyModuleRule", "AnyModuleRule", "AnyModuleRule"]


def test_the_rule_registered_last_comes_first():
    register(Scale)(ForgetsInput)
    register(Scale)(ScaleRule)
    assert type(rules_of(Scale())[0]) is ScaleRule


READING = {"_dp_sgd_rule.py", "clipping.py", "bookkeeping.py", "linear.py"}  # and dp_sgd.py, which makes the rule
PASSED = {"dispatch.py", "units.py", "layer_rule.py", "per_example_loss.py"}  # looked up, cut, named: no formula of it


def test_a_private_step_of_a_linear_network_is_read_in_five_files():
    """What else runs only looks up the route, cuts the batch and asks a known objective."""
    with scoped(Stream(0)):
        network = Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    rule = DPSGD(noise_multiplier=1.0, delta=1e-3).rule(MeanGradient())
    records = Records.of(torch.rand(40, 4), torch.randint(3, (40,)))
    oracle = rule.oracle(records, network, TaskLoss(SingleLabel()), Schedule(1, 1, 8), Stream(1))
    oracle(*network.start())
    files = set()
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: files.add(Path(frame.f_code.co_filename)))
    try:
        oracle(*network.start())
    finally:
        sys.setprofile(before)
    rooms = ("per_example", "per_example/layers", "defend/training")
    own = {path.name for path in files if any(path.parent.match(room) for room in rooms)}
    assert READING <= own <= READING | PASSED
