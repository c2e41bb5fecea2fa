"""Views of a record: what they are, that they are averaged before clipping, and that they stay one record."""

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused, Unlawful
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.training import _dp_sgd_rule
from consilium.defend.training.adversarial_training import AdversarialTraining
from consilium.defend.training.augmentation import Augmentation
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.augment import Augmented, units_of_rows, views
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

CLIP = 0.5
ALL = Schedule(rounds=1, epochs=1, batch=0)


def network():
    with scoped(Stream(0)):
        return Network(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3)))


def data(n=12):
    g = Stream(1).generator()
    return Records.of(torch.rand(n, 1, 8, 8, generator=g), torch.randint(3, (n,), generator=g))


def total(records, objective, clip=CLIP, sigma=1e-9):
    """The released sum; noise that cancels where the address is the same, or none to speak of."""
    net = network()
    params, buffers = net.start()
    rule = DPSGD(noise_multiplier=sigma, delta=1e-3, clip=clip).rule(MeanGradient())
    return rule.oracle(records, net, objective, ALL, Stream(5))(4 * params, buffers).value * len(records)


def moved_by_leaving_out(objective):
    records = data()
    return float((total(records, objective) - total(records.select(torch.arange(len(records) - 1)), objective)).norm())


OBJECTIVES = [
    Augmentation(copies=4).objective(TaskLoss(SingleLabel())),
    AdversarialTraining(0.1, steps=1, share=0.5).objective(Augmentation(copies=3).objective(TaskLoss(SingleLabel()))),
    Augmentation(copies=3).objective(AdversarialTraining(0.1, steps=1).objective(TaskLoss(SingleLabel()))),
]


def moved_by_replacing(objective):
    records = data()
    x = records.x.clone()
    x[0] = 1 - x[0].round()
    other = Records(x, records.y, records.ids, records.units)
    return float((total(records, objective) - total(other, objective)).norm())


@pytest.mark.parametrize("objective", OBJECTIVES, ids=["views", "attacked views", "views of attacks"])
def test_one_record_moves_the_sum_by_at_most_the_clip(objective):
    """Replaced, since leaving one out shifts the draws of views; then twice the clip is the bound."""
    assert 0.5 * CLIP < moved_by_replacing(objective) <= 2 * CLIP * (1 + 1e-4)


def test_the_last_record_left_out_moves_it_by_at_most_the_clip():
    """Views without a draw are the same for the others whoever is left out."""
    assert moved_by_leaving_out(Augmented(TaskLoss(SingleLabel()), copies=4, flip=False, shift=0)) > 0.9 * CLIP
    assert moved_by_leaving_out(Augmented(TaskLoss(SingleLabel()), copies=4, flip=False, shift=0)) <= CLIP * 1.0001


def test_clipping_every_view_alone_is_caught(monkeypatch):
    """The bug that multiplies a record's influence by K."""
    monkeypatch.setattr(_dp_sgd_rule, "units_of_rows", lambda batch, units: None)
    assert moved_by_leaving_out(Augmented(TaskLoss(SingleLabel()), copies=4, flip=False, shift=0)) > 2 * CLIP


def test_unclipped_it_is_the_gradient_of_the_mean_over_views_by_hand():
    records, net = data(), network()
    objective = Augmented(TaskLoss(SingleLabel()), 4, flip=True, shift=2)
    params, buffers = net.start()
    generator = Stream(5).child("step", 0, "prepare").generator()
    batch = objective.prepare(lambda x: x, records.x, records.y, generator)
    at = (4 * params).requires_grad_()
    losses = torch.nn.functional.cross_entropy(net.logits(at, buffers, batch["x"]), batch["y"], reduction="none")
    (expected,) = torch.autograd.grad(losses.view(len(records), 4).mean(1).sum(), at)
    torch.testing.assert_close(total(records, objective, clip=1e4), expected, rtol=1e-3, atol=1e-3)
    plain = total(records, TaskLoss(SingleLabel()), clip=1e4)
    assert float((plain - expected).norm() / expected.norm()) > 0.01


def test_views_are_mirrored_and_shifted_images():
    x = torch.arange(36.0).view(1, 1, 6, 6).repeat(200, 1, 1, 1)
    seen = views(x, True, 1, Stream(0).generator())
    image = x[0, 0]
    reflected = nn.functional.pad(x[:1], (1, 1, 1, 1), mode="reflect")[0, 0]
    allowed = []
    for down in range(3):
        for across in range(3):
            crop = reflected[down : down + 6, across : across + 6]
            allowed += [crop, crop.flip(1)]
    found = [next(i for i, a in enumerate(allowed) if torch.equal(v, a)) for v in seen[:, 0]]
    assert len(set(found)) == 18
    assert torch.equal(views(x, False, 0, Stream(0).generator())[7, 0], image)


def test_a_view_looks_at_its_own_record_alone():
    a, b = torch.rand(2, 5, 1, 8, 8)
    b[2] = a[2]
    seen = [views(x, True, 3, Stream(0).generator())[2] for x in (a, b)]
    assert torch.equal(*seen)


def test_the_rows_of_a_record_carry_its_number():
    batch = Augmented(TaskLoss(SingleLabel()), 3, True, 1).prepare(
        lambda x: x, *(data().x, data().y), Stream(0).generator()
    )
    assert batch["record"].tolist() == [i for i in range(12) for _ in range(3)]
    assert torch.equal(batch["y"], data().y.repeat_interleave(3))
    patients = torch.arange(12) // 2
    assert torch.equal(units_of_rows(batch, patients), patients.repeat_interleave(3))
    assert units_of_rows({"x": batch["x"]}, None) is None


def test_refusals():
    with pytest.raises(Unlawful, match="twice"):
        Augmentation().objective(Augmentation().objective(TaskLoss(SingleLabel())))
    with pytest.raises(Refused, match="copies"):
        Augmentation(copies=0)
    with pytest.raises(Refused, match="shift"):
        views(torch.rand(2, 1, 8, 8), True, 8, Stream(0).generator())
    with pytest.raises(Refused, match="shape"):
        views(torch.rand(2, 30), True, 0, Stream(0).generator())
