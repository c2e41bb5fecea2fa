"""Every algorithm's messages as a deployment carries them: what arrives is what was sent, and suffices to work on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from consilium.core.algorithm import AlgorithmState
from consilium.core.catalogue import cards, load_entry
from consilium.core.errors import Refused
from consilium.core.gradient import Gradient
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.update import Aggregate, Update
from consilium.deploy.protocol import messages as wire

STUDY = "0123456789abcdef"


@pytest.fixture
def network():
    with scoped(Stream(4)):
        return Network(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))


def worked(algorithm, sent, network):
    """One site's payload after two made-up gradients."""
    work = algorithm.begin(sent, AlgorithmState(), 2)
    for seed in (1, 2):
        value = torch.randn(network.size, generator=torch.Generator().manual_seed(seed))
        work = algorithm.step(work, Gradient(value, work.buffers + seed))
    return algorithm.finish(sent, work)[0]


@pytest.mark.parametrize("card", cards("federate/algorithms"), ids=lambda card: card.kind)
def test_what_arrives_is_what_was_sent(card, network) -> None:
    algorithm = load_entry(card)().bound(network)
    server = algorithm.start(network, 3)
    server = algorithm.advance(server, Aggregate(worked(algorithm, algorithm.broadcast(server), network), 1.0, 1))
    sent = algorithm.broadcast(server)
    came = wire.decode_broadcast(wire.encode_broadcast(sent, STUDY), wire.Context(STUDY, 2))
    assert came.extra.keys() == sent.extra.keys()
    payload, other = worked(algorithm, sent, network), worked(algorithm, came, network)
    assert all(torch.equal(payload[name], other[name]) for name in payload)

    shapes = algorithm.expects(server)
    data = wire.encode_update(Update("site-0", 2, 1.0, payload), STUDY)
    read = wire.decode_update(data, wire.Context(STUDY, 2, shapes=shapes)).update
    assert all(torch.equal(read.payload[name], payload[name]) for name in shapes)
    with pytest.raises(Refused):
        wire.decode_update(data, wire.Context(STUDY, 2, shapes={**shapes, "more": (1,)}))

    model = wire.decode_model(wire.encode_model(server, STUDY), wire.Context(STUDY, 1))
    for one, two in zip(
        algorithm.model_for(model, AlgorithmState()), algorithm.model_for(server, AlgorithmState()), strict=True
    ):
        assert torch.equal(one, two)
