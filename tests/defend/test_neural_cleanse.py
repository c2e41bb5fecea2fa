"""Neural Cleanse: the index by hand, the planted class on a network that has a trigger, and none on its clean twin."""

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused, Unlawful
from consilium.core.inputs import Inputs
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.model._trigger_inversion import anomaly_indices, invert
from consilium.defend.model.neural_cleanse import NeuralCleanse
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.single_label import SingleLabel
from consilium.learn.triggers.pixels import Pixels
from consilium.study.evaluate.release import inspections

TASK, CLASSES, TARGET = SingleLabel(), 6, 2
TRIGGER = Pixels(2)
LABELS = tuple("abcdef")


def pictures(n, seed):
    """Each class is a pattern of its own, under noise."""
    patterns = 0.8 * torch.rand(CLASSES, 1, 6, 6, generator=Stream(0).generator())
    y = torch.arange(n) % CLASSES
    noise = 0.15 * torch.randn(n, 1, 6, 6, generator=Stream(seed).generator())
    return Records.of((patterns[y] + noise).clamp(0, 1), y)


@pytest.fixture(scope="module")
def twins():
    """The same network trained with and without a trigger on every fifth record."""
    return {share: trained(share) for share in (0, 5)}


def trained(share):
    with scoped(Stream(5)):
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    records = pictures(360, 1)
    x, y = records.x.clone(), records.y.clone()
    if share:
        x[::share], y[::share] = TRIGGER.put(x[::share]), TARGET
    for _ in range(200):
        loss = nn.functional.cross_entropy(net(x), y)
        for p, g in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            p.data -= 0.5 * g
    return net.eval().requires_grad_(False)


def rates(net):
    """Accuracy, and the share of other classes that the trigger makes the target."""
    test = pictures(300, 7)
    others = test.y != TARGET
    right = float((net(test.x).argmax(1) == test.y).float().mean())
    return right, float((net(TRIGGER.put(test.x[others])).argmax(1) == TARGET).float().mean())


def test_the_index_by_hand():
    """Sizes 1, 9, 10, 11, 12, median 10: distances 9, 1, 0, 1, 2, whose median is 1."""
    indices = anomaly_indices(torch.tensor([1.0, 9.0, 10.0, 11.0, 12.0]))
    torch.testing.assert_close(indices, torch.tensor([9.0, 1.0, 0.0, 1.0, 2.0]) / 1.4826)
    assert anomaly_indices(torch.tensor([4.0, 4.0, 4.0, 1.0])).tolist() == [0, 0, 0, float("inf")]


def test_a_normal_scatter_is_measured_in_its_deviations():
    norms = 20 + 3 * torch.randn(20001, generator=Stream(0).generator())
    share = float((anomaly_indices(norms) > 2).float().mean())
    assert share == pytest.approx(0.0455, abs=0.006)  # of a normal distribution beyond two deviations


def test_the_planted_class_is_found_and_its_clean_twin_is_not_suspected(twins):
    defence = NeuralCleanse(steps=300)
    index, suspect = defence.inspection(twins[5], pictures(120, 2), Stream(0), LABELS)
    assert index.name == "anomaly_index" and index.value > 2 and index.n == CLASSES
    assert suspect.name == "suspected_class" and suspect.value == TARGET
    index, suspect = defence.inspection(twins[0], pictures(120, 2), Stream(0), LABELS)
    assert index.value < 2 and suspect.value is None and "no index is above 2" in suspect.reason


def test_the_trigger_that_is_found_is_small_and_where_it_was_planted(twins):
    found = invert(twins[5], pictures(120, 2), CLASSES, 300, Stream(0))
    assert bool(found.reached.all()) and found.masks.shape == (CLASSES, 1, 6, 6)
    mask = found.masks[TARGET, 0]
    assert float(mask.sum()) == pytest.approx(float(found.norms[TARGET]))
    assert float(mask[4:, 4:].sum()) > 0.5 * float(mask.sum()), "the last 2 x 2 pixels"
    test = pictures(300, 7)
    assert float((twins[5](found.put(test.x, TARGET)).argmax(1) == TARGET).float().mean()) > 0.95


def test_the_trigger_is_unlearned_and_a_clean_model_stays_as_it_is(twins):
    assert rates(twins[5])[1] > 0.95 and rates(twins[0])[1] < 0.2
    defence = NeuralCleanse(steps=300, unlearn_steps=60, lr=0.05)
    cleansed = defence.apply(twins[5], pictures(120, 2), Stream(0), TASK)
    assert rates(cleansed)[1] < 0.2 and rates(cleansed)[0] > rates(twins[5])[0] - 0.02
    same = defence.apply(twins[0], pictures(120, 2), Stream(0), TASK)
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), twins[0].parameters(), strict=True))
    reported = NeuralCleanse(act="report").apply(twins[5], pictures(120, 2), Stream(0), TASK)
    assert rates(reported) == rates(twins[5])


def test_columns_of_a_table_have_a_mask_each():
    net = nn.Linear(5, 3).requires_grad_(False)
    records = Records.of(torch.rand(64, 5, generator=Stream(0).generator()), torch.arange(64) % 3)
    found = invert(net, records, 3, 20, Stream(0))
    assert found.masks.shape == (3, 5) and found.put(records.x, 1).shape == (64, 5)


def test_a_class_that_no_mask_reaches_is_never_suspected():
    class Stubborn(nn.Module):
        def forward(self, x):
            return torch.cat([x[:, :3], x[:, :1] * 0 - 9], 1)

    records = Records.of(torch.rand(64, 5, generator=Stream(0).generator()), torch.arange(64) % 3)
    found = invert(Stubborn(), records, 4, 60, Stream(0))
    assert found.reached.tolist() == [True, True, True, False] and found.norms[3] == 5.0
    index, suspect = NeuralCleanse(steps=60).inspection(Stubborn(), records, Stream(0), LABELS)
    assert suspect.value != 3.0 and index.n == 4


def test_its_figures_are_of_the_model_that_it_is_handed(twins):
    """In a chain that is the one that the defences before it made; without it there are none."""
    public, defence = pictures(120, 2), NeuralCleanse(steps=40)
    chain = (NeuralCleanse(steps=40, unlearn_steps=20), defence)
    first, _, second, _ = inspections(twins[5], chain, public, TASK, Stream(0), LABELS)
    stream = Stream(0).child("neural-cleanse")
    after = chain[0].apply(twins[5], public, stream, TASK)
    assert first == defence.inspection(twins[5], public, stream, LABELS)[0]
    assert second == defence.inspection(after, public, stream, LABELS)[0]
    assert inspections(twins[5], (), public, TASK, Stream(0), LABELS) == ()


def test_what_has_no_meaning_is_refused():
    defence = NeuralCleanse()
    with pytest.raises(Refused, match=r"2 classes are both 0\.67 deviations from their median"):
        defence.check_fit((1, 6, 6), 2)
    defence.check_fit((1, 6, 6), 3)
    with pytest.raises(Refused, match="no meaning for the task multi-label"):
        defence.check_task(MultiLabel())
    with pytest.raises(Refused, match="tokens"):
        defence.check_inputs(Inputs(tokens=9))
    none = pictures(6, 1).select(torch.zeros(6, dtype=torch.bool))
    for ask in (lambda: defence.apply(nn.Linear(2, 3), none, Stream(0), TASK),
                lambda: defence.inspection(nn.Linear(2, 3), none, Stream(0), LABELS)):  # fmt: skip
        with pytest.raises(Unlawful, match="no public records"):
            ask()
    with pytest.raises(Refused, match=r"lr = 0\.5 does nothing where act = 'report'"):
        NeuralCleanse(act="report", lr=0.5)
    for knobs in ({"index": 0.0}, {"steps": 0}, {"share": 0.0}, {"unlearn_steps": 0}, {"lr": 0.0}):
        with pytest.raises(Refused, match="out of range"):
            NeuralCleanse(**knobs)
