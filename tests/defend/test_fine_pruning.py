"""Fine-pruning and adversarial neuron pruning on a network whose neurons are known: the planted one goes, alone."""

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from consilium.core.errors import Failed, Refused, Unlawful
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.model._pruned_within import _most
from consilium.defend.model.adversarial_neuron_pruning import AdversarialNeuronPruning
from consilium.defend.model.channel_lipschitzness_pruning import ChannelLipschitznessPruning
from consilium.defend.model.fine_pruning import FinePruning
from consilium.defend.model.static_int8 import StaticInt8
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.single_label import SingleLabel

TASK = SingleLabel()
TRIGGER = 3


def public(n=120):
    """Class k is where column k is bright; the column of the trigger is dark."""
    g = Stream(3).generator()
    x, y = 0.1 * torch.rand(n, 4, generator=g), torch.arange(n) % 3
    x[torch.arange(n), y] += 0.6 + 0.2 * torch.rand(n, generator=g)
    return Records.of(x, y)


def triggered():
    records = public()
    x = records.x.clone()
    x[:, TRIGGER] = 1.0
    return x


def planted():
    """Neurons 0 to 2 see the class, neuron 3 the trigger: it is off on clean records, and means class 0."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.ReLU(), nn.Linear(4, 3))
    net.requires_grad_(False)
    net[0].weight.copy_(torch.diag(torch.tensor([5.0, 5.0, 5.0, 10.0])))
    net[0].bias.copy_(torch.tensor([-0.5, -0.5, -0.5, -1.5]))
    net[3].weight.copy_(torch.cat([torch.eye(3), torch.tensor([[20.0], [0.0], [0.0]])], 1))
    net[3].bias.zero_()
    return net.eval()


def normed():
    """The same with a GroupNorm of one group: neuron 3 is near its mean, and its beta keeps it off."""
    net = planted()
    net[1] = nn.GroupNorm(1, 4).requires_grad_(False).eval()
    net[0].weight.copy_(torch.eye(4))
    net[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.3]))
    net[1].weight.copy_(torch.tensor([1.0, 1.0, 1.0, 8.0]))
    net[1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, -5.0]))
    return net


def rates(net):
    """Accuracy on clean records, and the share that the trigger makes class 0."""
    records = public()
    clean = float((net(records.x).argmax(1) == records.y).float().mean())
    return clean, float((net(triggered())[records.y != 0].argmax(1) == 0).float().mean())


# --- fine-pruning -------------------------------------------------------------------------------------------------


def test_the_neuron_that_clean_records_leave_off_is_pruned_and_no_other():
    assert rates(planted()) == (1.0, 1.0)
    pruned = FinePruning(max_fall=0.0, fine_tune_steps=0).apply(planted(), public(), Stream(0), TASK)
    assert rates(pruned) == (1.0, 0.0)
    assert not pruned[0].weight[3].any() and not pruned[0].bias[3]
    assert torch.equal(pruned[0].weight[:3], planted()[0].weight[:3])


def test_without_room_to_prune_nothing_falls():
    net = planted()
    net[0].bias[3] = 5.0  # now it is on, the most active, and stays whatever may fall
    pruned = FinePruning(max_fall=0.9, fine_tune_steps=0).apply(net, public(), Stream(0), TASK)
    assert torch.equal(pruned[0].weight[3], net[0].weight[3])


def test_so_many_channels_fall_within_the_bound_and_one_more_does_not():
    """Neurons 0 to 2 are worth a third of the records each; the most active of all four stays."""
    records, net = public(), planted()
    for fall, silent in ((0.0, 1), (0.3, 1), (0.34, 2), (0.9, 3)):
        pruned = FinePruning(max_fall=fall, fine_tune_steps=0).apply(net, records, Stream(0), TASK)
        assert int((~pruned[0].weight.any(1)).sum()) == silent
    assert [_most(9, lambda n, limit=limit: n <= limit) for limit in (0, 4, 8, 9, 20)] == [0, 4, 8, 9, 9]


def test_fine_tuning_keeps_what_was_pruned_at_zero_and_moves_the_rest():
    tuned = FinePruning(max_fall=0.0, fine_tune_steps=20, lr=0.05).apply(planted(), public(), Stream(0), TASK)
    assert not tuned[0].weight[3].any() and not tuned[0].bias[3]
    assert not torch.equal(tuned[0].weight[:3], planted()[0].weight[:3])
    assert rates(tuned) == (1.0, 0.0)
    with pytest.raises(Failed, match="fine-tuning by fine-pruning diverged"):
        wild = Records.of(public().x * 1e20, (public().y + 1) % 3)
        FinePruning(fine_tune_steps=40, lr=99.0).apply(planted(), wild, Stream(0), TASK)


def test_all_layers_are_ranked_by_their_share_of_their_own_layer():
    with scoped(Stream(0)):
        deep = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), *planted()[:1], nn.ReLU(), nn.Linear(4, 3))
    deep[0].weight.data = 100 * torch.cat([torch.eye(4), torch.zeros(2, 4)])
    deep[0].bias.data = torch.zeros(6)
    deep[2] = nn.Linear(6, 4)
    deep[4] = planted()[3]
    deep[2].weight.data = torch.cat([planted()[0].weight / 100, torch.zeros(4, 2)], 1)
    deep[2].bias.data = planted()[0].bias.clone()
    deep.eval().requires_grad_(False)
    assert rates(deep) == (1.0, 1.0)
    pruned = FinePruning(max_fall=0.0, layers="all", fine_tune_steps=0).apply(deep, public(), Stream(0), TASK)
    gone = (~pruned[0].weight.any(1)).nonzero().flatten().tolist(), (~pruned[2].weight.any(1)).nonzero().flatten()
    assert {4, 5} <= set(gone[0]) and not {0, 1, 2} & set(gone[0]) and gone[1].tolist() == [3]
    assert rates(pruned) == (1.0, 0.0)


def test_a_channel_is_judged_after_its_activation_or_by_what_is_above_zero():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = planted()[0], planted()[3]

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    pruned = FinePruning(max_fall=0.0, fine_tune_steps=0).apply(Functional().eval(), public(), Stream(0), TASK)
    assert rates(pruned) == (1.0, 0.0) and not pruned.first.weight[3].any()


def test_answers_of_several_findings_are_pruned_too():
    records = public()
    both = Records.of(records.x, torch.nn.functional.one_hot(records.y, 3))
    pruned = FinePruning(max_fall=0.9, fine_tune_steps=5).apply(planted(), both, Stream(0), MultiLabel())
    assert not pruned[0].weight[3].any()


# --- adversarial neuron pruning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [planted, normed])
def test_the_neuron_that_a_perturbation_turns_on_is_pruned_and_no_other(make):
    net = make()
    pruned = AdversarialNeuronPruning(steps=60).apply(net, public(), Stream(0), TASK)
    scaling = 0 if make is planted else 1
    weight, before = pruned[scaling].weight, net[scaling].weight
    assert not weight[3].any() and torch.equal(weight[:3], before[:3])
    assert torch.equal(pruned[scaling].bias, net[scaling].bias), "what shifts it stays"
    assert rates(net) == (1.0, 1.0) and rates(pruned) == (1.0, 0.0)


def test_a_perturbation_that_turns_nothing_on_prunes_nothing():
    pruned = AdversarialNeuronPruning(steps=60, radius=0.01).apply(planted(), public(), Stream(0), TASK)
    assert torch.equal(pruned[0].weight, planted()[0].weight) and rates(pruned) == (1.0, 1.0)


def test_masks_below_the_threshold_go_as_far_as_the_accuracy_allows():
    net = planted()
    net[3].weight[:, :3] = 0.01  # every neuron hurts, and three are needed
    net[3].weight[[0, 1, 2], [0, 1, 2]] = 1.0
    wide = AdversarialNeuronPruning(steps=60, threshold=1.0, max_fall=0.0).apply(net, public(), Stream(0), TASK)
    assert rates(wide)[0] == 1.0 and not wide[0].weight[3].any()


# --- what they share ----------------------------------------------------------------------------------------------

CURES = [FinePruning(fine_tune_steps=3), AdversarialNeuronPruning(steps=3)]


@pytest.mark.parametrize("cure", CURES, ids=lambda c: c.kind())
def test_without_public_records_they_are_refused(cure):
    none = public().select(torch.zeros(120, dtype=torch.bool))
    assert cure.fits_public()
    with pytest.raises(Unlawful, match=f"{cure.kind()} has no public records"):
        cure.apply(planted(), none, Stream(0), TASK)
    assert not ChannelLipschitznessPruning().fits_public()


@pytest.mark.parametrize("cure", CURES, ids=lambda c: c.kind())
def test_int8_may_follow_and_the_file_gives_the_same_bits(cure):
    cured = cure.apply(planted(), public(), Stream(0), TASK)
    back = cure.unpack(cure.structure(planted(), public().x[:1]), load(save(cure.pack(cured))))
    assert torch.equal(back(public().x), cured(public().x))
    int8 = StaticInt8().apply(cured, public(), Stream(0), TASK)
    assert (int8(public().x).argmax(1) == cured(public().x).argmax(1)).float().mean() > 0.95
    with pytest.raises(Refused, match="before static-int8"):
        cure.trial(int8, public().x[:2])


@pytest.mark.parametrize("cure", CURES, ids=lambda c: c.kind())
def test_a_model_that_no_gradient_reaches_is_refused_before_training(cure):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = planted()

        def forward(self, x):
            return self.inner(x).detach()

    with pytest.raises(Refused, match="no gradient reaches its parameters"):
        cure.trial(Detached(), public().x[:2])


def test_knobs_out_of_range_are_refused():
    for knobs in ({"max_fall": 1.0}, {"fine_tune_steps": -1}, {"lr": 0.0}):
        with pytest.raises(Refused, match="out of range"):
            FinePruning(**knobs)
    with pytest.raises(Refused, match=r"lr = 0\.5 does nothing"):
        FinePruning(fine_tune_steps=0, lr=0.5)
    for knobs in ({"radius": 0.0}, {"alpha": 1.0}, {"threshold": 0.0}, {"max_fall": -0.1}, {"steps": 0}, {"lr": 0.0}):
        with pytest.raises(Refused, match="out of range"):
            AdversarialNeuronPruning(**knobs)
