"""PowerSGD: exact on low rank, the best approximation by warm starts, exact bytes, exact where it cannot help."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.update import Update, payload_bytes
from consilium.defend.update.power_sgd import PowerSGD

NET = Network(nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(30, 20), nn.Linear(20, 2)))
SHAPES = [(16, 27), None, (20, 30), None, None, None]  # matrices that rank 2 makes smaller; (2, 20) is not one of them
SIZES = [16 * 27, 16, 20 * 30, 20, 2 * 20, 2]
D = sum(SIZES)


def split(flat):
    return torch.split(flat, SIZES)


def low_rank(rank, draw):
    """An update whose matrices have this rank."""
    pieces = []
    for i, (size, shape) in enumerate(zip(SIZES, SHAPES, strict=True)):
        if shape is None:
            pieces.append(draw(size, i))
        else:
            n, m = shape
            pieces.append((draw(n * rank, 10 + i).view(n, rank) @ draw(m * rank, 20 + i).view(rank, m)).reshape(-1))
    return torch.cat(pieces)


def test_what_has_the_rank_is_sent_exactly(line, draw):
    delta = low_rank(2, draw)
    torch.testing.assert_close(line(PowerSGD(2).made_for(NET)).read(delta), delta, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(line(PowerSGD(1).made_for(NET)).read(delta), delta, atol=0.1)


def test_full_rank_is_exact(line, draw):
    assert torch.equal(line(PowerSGD(20).made_for(NET)).read(draw(D)), draw(D))


def test_one_step_against_numpy(line, draw):
    """D = P P' M for the orthonormal basis P of M Q: whatever basis is chosen, D is the same."""
    ours, delta = line(PowerSGD(2, feedback=False).made_for(NET)), draw(D)
    ours.read(delta)
    starts = ours.memory["delta.q"].double().numpy()
    second = draw(D, 1)
    read = split(ours.read(second))
    at = 0
    for got, given, shape in zip(read, split(second), SHAPES, strict=True):
        if shape is None:
            assert torch.equal(got, given)
            continue
        matrix = given.view(shape).double().numpy()
        basis, _, _ = np.linalg.svd(matrix @ starts[at : at + 2 * shape[1]].reshape(-1, 2), full_matrices=False)
        at += 2 * shape[1]
        assert np.allclose(got.view(shape).numpy(), basis @ basis.T @ matrix, atol=1e-4)


def excess(line, draw, forget):
    """How much worse than the best rank-2 approximation (Eckart and Young) the 40th message of one matrix is."""
    ours, delta = line(PowerSGD(2, feedback=False).made_for(NET)), draw(D)
    for _ in range(40):
        if forget:
            ours.memory = {}
        read = ours.read(delta)
    errors = [
        (float((got - given).norm()), math.sqrt(sum(x**2 for x in torch.linalg.svdvals(given.view(s))[2:].tolist())))
        for got, given, s in zip(split(read), split(delta), SHAPES, strict=True)
        if s is not None
    ]
    return max(error / best for error, best in errors)


def test_warm_starts_find_the_best_approximation_and_cold_ones_do_not(line, draw):
    assert excess(line, draw, forget=False) < 1.01
    assert excess(line, draw, forget=True) > 1.02


def test_what_was_sent_and_what_is_kept_is_what_was_given(line, draw):
    deltas = [draw(D, seed) for seed in range(10)]
    for feedback, equal in ((True, True), (False, False)):
        ours = line(PowerSGD(1, feedback).made_for(NET))
        sent = sum(ours.read(delta) for delta in deltas)
        assert torch.allclose(sent + ours.memory.get("delta.residual", 0), sum(deltas), atol=1e-3) == equal


def test_without_feedback_the_leading_direction_hides_what_sites_agree_on(descend, draw):
    """Two sites disagree along one pair of directions, strongly, and agree on a weak other one."""
    vectors = [nn.functional.normalize(draw(8, i), dim=0) for i in range(4)]
    loud, quiet = torch.outer(vectors[0], vectors[1]), torch.outer(vectors[2], vectors[3])
    pulls = [lambda w, s=s: torch.cat([(s * 10 * loud + quiet).reshape(-1), torch.zeros(8)]) - w for s in (1, -1)]
    optimum, net = torch.cat([quiet.reshape(-1), torch.zeros(8)]), Network(nn.Linear(8, 8))
    with_it, without = (descend(PowerSGD(1, f).made_for(net), pulls, optimum) for f in (True, False))
    assert without > 0.5
    assert with_it < 0.3 * without


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_exact_bytes(line, draw, rank):
    message, _ = line(PowerSGD(rank).made_for(NET)).send(draw(D))
    numbers = 0
    for size, (n, m) in zip(SIZES, [(16, 27), (16, 1), (20, 30), (20, 1), (2, 20), (2, 1)], strict=True):
        numbers += min(size, rank * (n + m)) if m > 1 else size
    assert payload_bytes(message.payload) == 4 * numbers


def test_a_matrix_of_zeros_is_no_dead_end(line, draw):
    ours = line(PowerSGD(2, feedback=False).made_for(NET))
    for _ in range(2):
        assert torch.equal(ours.read(torch.zeros(D)), torch.zeros(D))
    delta = low_rank(2, draw)
    torch.testing.assert_close(ours.read(delta), delta, rtol=1e-3, atol=1e-3)


def test_it_must_know_the_layers():
    update = Update("a", 1, 1.0, {"delta": torch.zeros(4)})
    with pytest.raises(Refused, match="layers"):
        PowerSGD().protect(update, {}, Stream(0))
    with pytest.raises(Refused, match=f"the entry has 4 numbers, the layers given to power-sgd {D}"):
        PowerSGD().made_for(NET).protect(update, {}, Stream(0))


@pytest.mark.parametrize("part", ["p", "q", "rest"])
def test_a_factor_that_is_not_finite_is_refused(line, draw, part):
    codec = PowerSGD().made_for(NET)
    message, _ = line(codec).send(draw(D))
    message.payload[f"delta.{part}"][0] = math.nan
    with pytest.raises(Refused, match="power-sgd: delta: a factor is not finite"):
        codec.enforce(message, {"delta": (D,)})


def test_the_rank_is_at_least_one():
    with pytest.raises(Refused, match="rank"):
        PowerSGD(0)
