"""Dot products, norms and losses against autograd, one record after the other."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.learn import alignment
from consilium.learn.alignment import alignments, record_losses
from consilium.learn.models.cnn import CNN
from consilium.learn.models.resnet9 import ResNet9
from consilium.learn.tasks.single_label import SingleLabel


def setting(architecture, n=7):
    g = torch.Generator().manual_seed(1)
    with scoped(Stream(2)):
        network = Network(architecture.build((1, 8, 8), 3))
    params, buffers = network.start()
    records = Records.of(torch.rand(n, 1, 8, 8, generator=g), torch.randint(3, (n,), generator=g))
    return network, params, buffers, records, torch.randn(len(params), generator=g)


@pytest.mark.parametrize("architecture", [CNN(width=3), ResNet9(width=2, norm="batch")], ids=["cnn", "batch norm"])
@pytest.mark.parametrize("budget", [1, 2**25], ids=["one by one", "at once"])
def test_they_are_those_of_autograd(architecture, budget, monkeypatch):
    monkeypatch.setattr(alignment, "_BUDGET", budget)
    network, params, buffers, records, direction = setting(architecture)
    dots, norms = alignments(network, params, buffers, records, direction, SingleLabel())
    for i in range(len(records)):
        leaf = params.clone().requires_grad_()
        loss = cross_entropy(network.logits(leaf, buffers, records.x[i : i + 1]), records.y[i : i + 1])
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert float(dots[i]) == pytest.approx(float(gradient @ direction), rel=1e-4, abs=1e-4)
        assert float(norms[i]) == pytest.approx(float(gradient.norm()), rel=1e-4)
        assert float(record_losses(network, params, buffers, records, SingleLabel())[i]) == pytest.approx(
            float(loss.detach()), rel=1e-5
        )


def test_no_record_is_an_empty_answer():
    network, params, buffers, records, direction = setting(CNN(width=3))
    none = records.select(torch.zeros(0).long())
    assert [len(t) for t in alignments(network, params, buffers, none, direction, SingleLabel())] == [0, 0]
    assert len(record_losses(network, params, buffers, none, SingleLabel())) == 0
