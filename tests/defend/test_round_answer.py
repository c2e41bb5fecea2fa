"""Rounded answers: what is released, and that it says less."""

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.defend.answer.round_answer import RoundAnswer

P = torch.tensor([[0.7351, 0.2049, 0.06], [0.005, 0.4999, 0.4951]])


def test_confidences_are_rounded_and_not_renormalised():
    assert torch.allclose(RoundAnswer(2).answer(P), torch.tensor([[0.74, 0.20, 0.06], [0.0, 0.5, 0.5]]), atol=6e-3)
    assert torch.equal(RoundAnswer(0).answer(P), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert float(RoundAnswer(1).answer(P)[0].sum()) == pytest.approx(1.0, abs=0.15)


def test_only_the_top_k_are_answered():
    answered = RoundAnswer(None, top_k=1).answer(P)
    assert torch.equal(answered, torch.tensor([[0.7351, 0, 0], [0, 0.4999, 0]]))
    assert torch.equal(RoundAnswer(None, top_k=9).answer(P), P)


def test_fewer_digits_say_less():
    random = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    distinct = [len(RoundAnswer(d).answer(random).unique(dim=0)) for d in (5, 2, 1)]
    assert distinct[0] > distinct[1] > distinct[2]


def test_what_is_handed_in_stays():
    before = P.clone()
    assert RoundAnswer(None, top_k=9).answer(P) is not P
    RoundAnswer(1, 2).answer(P)
    assert torch.equal(P, before)


def test_the_surrogate_is_the_model_behind():
    model = nn.Linear(1, 1)
    assert RoundAnswer().surrogate(model) is model
    assert RoundAnswer().surrogate(None) is None


@pytest.mark.parametrize("knobs", [{"digits": None}, {"digits": -1}, {"digits": 2, "top_k": 0}])
def test_what_does_nothing_or_makes_no_sense_is_refused(knobs):
    with pytest.raises(Refused):
        RoundAnswer(**knobs)
