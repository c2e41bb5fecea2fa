"""TRADES, MART, FGSM, the regularised objective and the warm-up: by hand, per record, and inside DP-SGD."""

import math

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
from consilium.defend.training.mart import MART
from consilium.defend.training.trades import TRADES
from consilium.learn.augment import Augmented
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.single_label import SingleLabel

LOSS, ALL = TaskLoss(SingleLabel()), Schedule(rounds=1, epochs=1, batch=0)
VARIANTS = [
    AdversarialTraining(0.1, steps=2, alpha=0.5), AdversarialTraining(0.1, steps=1, random_start=False),
    TRADES(0.1, beta=6.0, steps=3), MART(0.1, beta=5.0, steps=3),
]  # fmt: skip
NAMES = ["regularised", "FGSM", "TRADES", "MART"]
every = pytest.mark.parametrize("defence", VARIANTS, ids=NAMES)


def network(kind=torch.float64):
    with scoped(Stream(0)):
        return Network(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 3)).to(kind))


def data(n=12, kind=torch.float64):
    g = Stream(1).generator()
    return Records.of(torch.rand(n, 1, 8, 8, generator=g).to(kind), torch.randint(3, (n,), generator=g))


def single(n=12):
    """Records of float32: what DP-SGD trains on."""
    return data(n, torch.float32)


def at(net, scale=4.0):
    params, buffers = net.start()
    return lambda x: net.logits(scale * params, buffers, x)


def prepared(defence, x, y, predict, seed=0, number=None):
    objective = defence.objective(LOSS)
    objective = objective if number is None else objective.in_round(number)
    return objective.prepare(predict, x, y, Stream(seed).generator()), objective


# --- losses, by a loop over records and classes -------------------------------------------------------------------


def softmax(z):
    top = max(z)
    powers = [math.exp(v - top) for v in z]
    return [v / sum(powers) for v in powers]


def kl(p, q):
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


def by_hand(defence, clean, moved, y):
    p, q = softmax(clean), softmax(moved)
    if isinstance(defence, TRADES):
        return -math.log(p[y]) + defence.beta * kl(p, q)
    if isinstance(defence, MART):
        wrong = max(v for k, v in enumerate(q) if k != y)
        return -math.log(q[y]) - math.log(1 - wrong) + defence.beta * kl(p, q) * (1 - p[y])
    return -defence.alpha * math.log(p[y]) - (1 - defence.alpha) * math.log(q[y])


@every
def test_losses_are_those_of_a_loop_by_hand(defence):
    net, records = network(), data()
    predict = at(net)
    batch, objective = prepared(defence, records.x, records.y, predict)
    losses = objective.losses(predict, batch)
    clean, moved = predict(records.x).tolist(), predict(batch["x"]).tolist()
    expected = [by_hand(defence, c, m, int(k)) for c, m, k in zip(clean, moved, records.y, strict=True)]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert not torch.equal(batch["x"], records.x)


@every
def test_gradients_are_those_of_differences_by_hand(defence):
    net, records = network(), data(3)
    params, buffers = net.start()
    batch, objective = prepared(defence, records.x, records.y, at(net))

    def value(weights):
        outs = [net.logits(weights, buffers, x).tolist() for x in (records.x, batch["x"])]
        return sum(by_hand(defence, c, m, int(k)) for c, m, k in zip(*outs, records.y, strict=True))

    leaf = (4 * params).requires_grad_()
    (gradient,) = torch.autograd.grad(objective.losses(lambda x: net.logits(leaf, buffers, x), batch).sum(), leaf)
    for place in (0, 17, 40, 300, len(params) - 1):
        step = torch.zeros_like(params)
        step[place] = 1e-5
        slope = (value(4 * params + step) - value(4 * params - step)) / 2e-5
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


# --- the perturbed input ------------------------------------------------------------------------------------------


def test_fgsm_on_a_linear_model_is_the_sign_of_the_difference_of_weights():
    w = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.5, 1.0, -1.0, 3.5]])  # two classes: the gradient of y = 0 is ~ w1 - w0
    x, y = torch.full((5, 4), 0.5), torch.zeros(5, dtype=torch.long)
    fgsm = AdversarialTraining(0.08, steps=1, random_start=False)
    moved = prepared(fgsm, x, y, lambda z: z @ w.T)[0]["x"]
    torch.testing.assert_close(moved, x + 0.08 * (w[1] - w[0]).sign(), rtol=0, atol=1e-7)


def test_fgsm_rs_on_a_linear_model_is_one_step_of_five_quarters_from_a_random_point_cut_to_the_ball():
    w = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.5, 1.0, -1.0, 3.5]])
    x, y = torch.full((500, 4), 0.5), torch.zeros(500, dtype=torch.long)
    defence = AdversarialTraining(0.08, steps=1)
    moved = prepared(defence, x, y, lambda z: z @ w.T, seed=3)[0]["x"]
    generator = Stream(3).generator()
    torch.rand(500, generator=generator)  # the coins of share
    start = 0.08 * (2 * torch.rand(x.shape, generator=generator) - 1)
    by_hand = (start + 0.1 * (w[1] - w[0]).sign()).clamp(-0.08, 0.08)
    torch.testing.assert_close(moved - x, by_hand, rtol=0, atol=1e-6)
    inside = (moved - x).abs() < 0.0799  # a start beyond -3/4 of the ball does not reach its face
    assert float(inside.float().mean()) == pytest.approx(0.375, abs=0.05)


def test_trades_climbs_the_divergence_and_mart_the_cross_entropy():
    net, records = network(), data(40)
    predict = at(net)

    def measured(batch):
        before, after = (predict(z).log_softmax(1) for z in (records.x, batch["x"]))
        return float((before.exp() * (before - after)).sum()), float(-after.gather(1, records.y[:, None]).sum())

    trades, mart = (measured(prepared(d(0.1, steps=10), records.x, records.y, predict)[0]) for d in (TRADES, MART))
    assert trades[0] > mart[0] > 0
    assert mart[1] > trades[1]


@every
def test_batch_mates_change_nothing_in_what_is_crafted(defence):
    net, records = network(), data(8)
    x, y = records.x.clone(), records.y.clone()
    x[0], y[0] = 1 - x[0], (y[0] + 1) % 3
    one, two = (prepared(defence, *pair, at(net))[0]["x"] for pair in ((records.x, records.y), (x, y)))
    torch.testing.assert_close(one[1:], two[1:], rtol=0, atol=1e-12)
    assert not torch.equal(one[0], two[0])


@every
def test_the_weights_get_no_gradient_of_crafting(defence):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    prepared(defence, data(6).x, data(6).y, model)
    assert all(p.grad is None for p in model.parameters())


# --- inside DP-SGD ------------------------------------------------------------------------------------------------


def total(records, objective, clip):
    net = network(torch.float32)
    params, buffers = net.start()
    rule = DPSGD(noise_multiplier=1e-9, delta=1e-3, clip=clip).rule(MeanGradient())
    return rule.oracle(records, net, objective, ALL, Stream(5))(4 * params, buffers).value * len(records)


class Ready(TaskLoss):
    """The losses of an objective on a batch that was prepared before, so that one record may come alone."""

    def __init__(self, objective, batch):
        super().__init__(SingleLabel())
        object.__setattr__(self, "objective", objective)
        object.__setattr__(self, "batch", batch)

    def prepare(self, predict, x, y, generator):
        return self.batch

    def losses(self, predict, batch):
        return self.objective.losses(predict, batch)


@pytest.mark.parametrize("clip", [0.5, 1e4])
@every
def test_the_sum_is_that_of_gradients_taken_and_clipped_one_by_one(defence, clip):
    net, records = network(torch.float32), single()
    params, buffers = net.start()
    batch, objective = prepared(defence, records.x, records.y, at(net))
    expected = torch.zeros_like(params)
    for i in range(len(records)):
        leaf = (4 * params).requires_grad_()
        alone = {name: t[i : i + 1] for name, t in batch.items()}
        loss = objective.losses(lambda x, leaf=leaf: net.logits(leaf, buffers, x), alone)
        (g,) = torch.autograd.grad(loss.sum(), leaf)
        expected += g * min(1.0, clip / float(g.norm()))
    torch.testing.assert_close(total(records, Ready(objective, batch), clip), expected, rtol=1e-4, atol=1e-4)


@every
def test_one_record_moves_the_sum_by_at_most_twice_the_clip_when_it_is_replaced(defence):
    records = single()
    x = records.x.clone()
    x[0] = 1 - x[0].round()
    other = Records(x, records.y, records.ids, records.units)
    moved = float((total(records, defence.objective(LOSS), 0.5) - total(other, defence.objective(LOSS), 0.5)).norm())
    assert 0.05 < moved <= 1.0 + 1e-4


class TwoRows(TaskLoss):
    """Seeded bug: the clean loss and the penalty as two examples, which are clipped apart."""

    def __init__(self, objective):
        super().__init__(SingleLabel())
        object.__setattr__(self, "objective", objective)

    def prepare(self, predict, x, y, generator):
        batch = self.objective.prepare(predict, x, y, generator)
        return {"x": torch.cat([batch["clean"], batch["x"]]), "y": torch.cat([y, y])}


def test_terms_that_are_clipped_apart_are_caught():
    less, whole = single().select(torch.arange(11)), single()
    bug = TwoRows(TRADES(0.1, steps=1).objective(LOSS))
    generous = float((total(whole, bug, 0.05) - total(less, bug, 0.05)).norm())
    assert generous > 0.05 * 1.5


def test_an_adversarial_view_may_be_one_of_k():
    records, net = single(), network(torch.float32)
    defence = AdversarialTraining(0.1, steps=1, views="first")
    plain = Augmentation(copies=4).objective(LOSS)
    batch = defence.objective(plain).prepare(at(net), records.x, records.y, Stream(2).generator())
    views = plain.prepare(at(net), records.x, records.y, Stream(2).generator())["x"]
    changed = (batch["x"] != views).flatten(1).any(1)
    assert changed.tolist() == [True, False, False, False] * len(records)


def test_clipping_the_adversarial_view_alone_is_caught(monkeypatch):
    objective = AdversarialTraining(0.1, 1, random_start=False, views="first").objective(Augmented(LOSS, 4, False, 0))

    def moved():
        return float(
            (total(single(), objective, 0.05) - total(single().select(torch.arange(11)), objective, 0.05)).norm()
        )

    assert moved() <= 0.05 * 1.0001
    monkeypatch.setattr(_dp_sgd_rule, "units_of_rows", lambda batch, units: None)
    assert moved() > 0.1


# --- the warm-up, and what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AdversarialTraining, TRADES, MART])
def test_the_radius_grows_from_nothing_to_its_whole(kind):
    net, records = network(), data()
    sizes = [
        float((prepared(kind(0.1, warm_up=4), records.x, records.y, at(net), number=r)[0]["x"] - records.x).abs().max())
        for r in (1, 2, 3, 5, 9)
    ]
    assert sizes == pytest.approx([0, 0.025, 0.05, 0.1, 0.1], rel=1e-6)
    whole = prepared(kind(0.1), records.x, records.y, at(net), number=1)[0]["x"]
    assert float((whole - records.x).abs().max()) == pytest.approx(0.1)


def test_the_warm_up_is_found_behind_other_objectives():
    objective = Augmentation(copies=2).objective(AdversarialTraining(0.1, warm_up=4).objective(LOSS)).in_round(2)
    batch = objective.prepare(at(network()), data().x, data().y, Stream(0).generator())
    still = Augmentation(copies=2).objective(LOSS).prepare(at(network()), data().x, data().y, Stream(0).generator())
    assert float((batch["x"] - still["x"]).abs().max()) == pytest.approx(0.025)


def test_what_existed_keeps_its_configuration():
    assert AdversarialTraining().configuration() == {
        "kind": "adversarial-training", "radius": 0.03, "steps": 7, "step-size": None, "norm": "linf", "share": 1.0,
    }  # fmt: skip
    assert AdversarialTraining(alpha=0.5).configuration()["alpha"] == 0.5


@pytest.mark.parametrize(
    ("kind", "knobs"),
    [
        (AdversarialTraining, {"alpha": 1.0}), (AdversarialTraining, {"warm_up": -1}), (TRADES, {"beta": 0.0}),
        (TRADES, {"radius": 0.0}), (MART, {"beta": -1.0}), (MART, {"steps": 0}), (MART, {"beta": float("nan")}),
    ],
)  # fmt: skip
def test_knobs_out_of_range_are_refused(kind, knobs):
    with pytest.raises(Refused, match="out of range"):
        kind(**knobs)


def test_two_of_them_are_refused():
    with pytest.raises(Unlawful, match="on top of trades"):
        MART().objective(TRADES().objective(LOSS))
    with pytest.raises(Unlawful, match="twice"):
        TRADES().objective(TRADES().objective(LOSS))


@pytest.mark.parametrize("defence", [TRADES(), MART()])
def test_a_task_without_classes_is_refused(defence):
    with pytest.raises(Refused, match="single-label"):
        defence.check_task(MultiLabel())
