"""The watching site on planted trajectories: losses that are known, and the models it never saw."""

import pytest
import torch
from torch import nn

from consilium.attack.membership.loss_trajectory import LossTrajectory
from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.records import Records
from consilium.core.round_observer import BroadcastRoundView, ObservedView
from consilium.learn.tasks.single_label import SingleLabel

N = 120


def loss(margin):
    return torch.nn.functional.softplus(-margin)


def rounds(margins, member):
    """One-hot records under a linear model whose margin on member i is ``margins[t]``, on others 0."""
    network, y = Network(nn.Linear(N, 2, bias=False)), torch.arange(N) % 2
    views, of = [], {"b": torch.arange(N)}
    for number, margin in enumerate(margins, 1):
        half = torch.where(member, margin / 2, 0.0) * (2 * y - 1)
        params = torch.stack([-half, half]).flatten()
        views.append(
            BroadcastRoundView(
                2, number, params, torch.zeros(0), network, Records.of(torch.eye(N), y), of, task=SingleLabel()
            )
        )
    return views


def found(views, member, answer):
    attack, memory = LossTrajectory(), {}
    for view in views:
        memory = attack.observe(memory, view)
    known = torch.arange(N) % 4 < 2
    seen = ObservedView(2, answer, views[0].candidates, member, known, rows=torch.arange(N), task=SingleLabel())
    return attack(seen, memory, torch.Generator().manual_seed(0)), seen


def test_the_score_is_the_fall_of_the_mean_loss():
    member = torch.arange(N) % 3 == 0
    views = rounds([0.0, 1.0, 2.0], member)
    finding, seen = found(views, member, lambda x: torch.zeros(len(x), 2))
    fall = loss(torch.tensor(0.0)) - (loss(torch.tensor(1.0)) + loss(torch.tensor(2.0)) + loss(torch.tensor(0.0))) / 3
    torch.testing.assert_close(finding.scores["score"].float(), torch.where(member, fall, 0.0))
    assert finding["auc"].value == 1
    assert seen.queries == [N]
    assert "3 broadcast models and of the released one" in finding.notes[0]


def test_what_was_easy_from_the_start_is_no_sign():
    """Records with a small loss before training, the same as after it, are not told from others."""
    member = torch.arange(N) % 3 == 0
    views = rounds([2.0, 2.0], member)
    finding, _ = found(views, member, lambda x: views[0].network.logits(views[0].params, views[0].buffers, x))
    assert finding["auc"].value == 0.5


def test_losses_past_every_bound_stay_finite():
    member = torch.arange(N) % 3 == 0
    finding, _ = found(rounds([0.0, -1e30], member), member, lambda x: torch.full((len(x), 2), float("nan")))
    assert finding.scores["score"].isfinite().all()


def test_the_smallest_site_watches_the_others_unless_one_is_named():
    sizes = {"a": 9, "b": 3, "c": 5}
    assert LossTrajectory().seat(sizes) == "b"
    assert LossTrajectory().targets(sizes) == ("a", "c")
    assert LossTrajectory(site="c").targets(sizes) == ("a", "b")
    with pytest.raises(Refused, match="no honest site"):
        LossTrajectory(site="z").targets(sizes)
    with pytest.raises(Refused, match="no other honest site"):
        LossTrajectory().targets({"a": 9})


def test_a_site_that_was_in_no_round_is_refused():
    member = torch.arange(N) % 3 == 0
    view = rounds([0.0], member)[0]
    seen = ObservedView(2, lambda x: x, view.candidates, member, member, rows=torch.arange(N), task=SingleLabel())
    with pytest.raises(Refused, match="was in no round"):
        LossTrajectory()(seen, {}, torch.Generator())
