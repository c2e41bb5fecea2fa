"""The contract of every measurement of a shift in the catalogue: no adversary, so no signal to plant."""

import pytest
import torch
from torch import nn

from consilium.core.catalogue import cards, load_entry
from consilium.core.records import Records
from consilium.core.threat import ModelView, View
from consilium.learn.tasks.single_label import SingleLabel


def run(entry, view):
    return entry(view, {}, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("card", cards("attack/shift"), ids=lambda c: c.kind)
def test_every_entry_of_the_room_keeps_the_contract(card, contract):
    """Documented, round trips, and touches nothing that it is shown."""
    entry = load_entry(card)()
    contract.documented(card)
    contract.round_trips(entry)
    assert entry.threat.aim == card.role and entry.threat.moment == "inference"
    g = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    records = Records.of(torch.rand(20, 1, 8, 8, generator=g), torch.randint(3, (20,), generator=g))
    few = ModelView(3, network, None, records, task=SingleLabel())
    with contract.untouched(network, few.targets.x, few.targets.y):
        one, two = run(entry, few), run(entry, few)
    contract.same(one, two)
    assert all(m.n == 20 and m.low <= m.value <= m.high for m in one.measures)
    contract.refuses(lambda: run(entry, View(3, task=SingleLabel())), entry.kind(), "ModelView", "View")
