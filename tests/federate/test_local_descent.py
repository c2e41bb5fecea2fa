"""Running statistics are averaged by every algorithm alike: they are no parameters, and no server rate touches them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from consilium.core.catalogue import cards, load_entry
from consilium.core.network import Network
from consilium.core.update import Aggregate

CARDS = [card for card in cards("federate/algorithms") if card.kind != "fed-bn"]  # whose statistics stay at the sites


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.kind)
def test_buffers_move_by_their_mean_change(card) -> None:
    algorithm, network = load_entry(card)(), Network(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    server = algorithm.start(network, 5)
    for number in (1, 2):
        before = server.buffers
        shapes = algorithm.expects(server).items()
        change = {name: torch.randn(shape, generator=torch.Generator().manual_seed(number)) for name, shape in shapes}
        server = algorithm.advance(server, Aggregate(change, 3.0, 2))
        assert (server.round, server.population) == (number, 5)
        assert not torch.equal(server.params, network.start()[0])
        torch.testing.assert_close(server.buffers, before + change["buffers"])
