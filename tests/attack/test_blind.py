"""The attack that sees no model: it finds a difference of records, says what that means, and nothing elsewhere."""

import torch

from consilium.attack.membership.blind import Blind
from consilium.core.attack import Attack
from consilium.core.catalogue import cards, load_entry
from consilium.core.records import Records
from consilium.core.threat import RecordsView
from consilium.learn.tasks.single_label import SingleLabel


def run(shift, n=1200, y=None):
    g = torch.Generator().manual_seed(0)
    member = torch.rand(n, generator=g) < 0.5
    x = torch.rand(n, 1, 6, 6, generator=g) * (1 - shift * member.float())[:, None, None, None]
    labels = (
        torch.randint(3, (n,), generator=g) if y is None else torch.where(member, y, torch.zeros_like(member).long())
    )
    seen = RecordsView(3, Records.of(x, labels), member, torch.rand(n, generator=g) < 0.5, task=SingleLabel())
    return Blind()(seen, {}, torch.Generator().manual_seed(1))


def test_one_distribution_is_at_chance():
    found = run(0.0)
    assert found["auc"].low < 0.5 < found["auc"].high and not found.notes


def test_a_darker_half_is_told_and_said():
    found = run(0.15)
    assert found["auc"].low > 0.6 and "without any model" in found.notes[0]


def test_another_mix_of_labels_is_told():
    assert run(0.0, y=torch.tensor(2))["auc"].low > 0.9


def test_nothing_to_learn_from_is_no_failure():
    member = torch.arange(40) % 2 == 0
    seen = RecordsView(2, Records.of(torch.rand(40, 5), torch.zeros(40).long()), member, member, task=SingleLabel())
    assert Blind()(seen, {}, torch.Generator())["auc"].value is None


def test_it_alone_of_all_attacks_sees_no_model():
    rooms = ("attack/evasion", "attack/membership")
    kinds = {card.kind: load_entry(card) for room in rooms for card in cards(room)}
    attacks = {kind: attack for kind, attack in kinds.items() if issubclass(attack, Attack)}
    assert len(attacks) > 10
    blind = [kind for kind, attack in attacks.items() if not attack.sees_model.fget(attack)]
    assert blind == ["blind"] and Blind().sees_model is False
