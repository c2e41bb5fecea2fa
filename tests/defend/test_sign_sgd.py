"""signSGD against a dense oracle, its exact bytes, and why it needs error feedback."""

import math

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.update import Update, payload_bytes
from consilium.defend.update.sign_sgd import SignSGD


def oracle(v):
    return np.where(v >= 0, 1.0, -1.0) * np.abs(v).mean(dtype=np.float64)


@pytest.mark.parametrize("n", [2, 8, 9, 211])
def test_the_server_reads_signs_of_the_mean_size(line, draw, n):
    delta = draw(n)
    message, read = line(SignSGD()).send(delta)
    assert np.allclose(read.payload["delta"].numpy(), oracle(delta.numpy()), rtol=1e-6)
    assert payload_bytes(message.payload) == math.ceil(n / 8) + 4
    assert message.payload["delta.signs"].dtype == torch.uint8


def test_error_feedback_against_the_oracle(line, draw):
    ours, e = line(SignSGD()), np.zeros(30)
    for seed in range(8):
        v = draw(30, seed).numpy() + e
        assert np.allclose(ours.read(draw(30, seed)).numpy(), oracle(v), atol=1e-5)
        e = v - oracle(v)


def test_what_was_sent_and_what_is_kept_is_what_was_given(line, draw):
    deltas = [draw(40, seed) for seed in range(20)]
    for feedback, equal in ((True, True), (False, False)):
        ours = line(SignSGD(feedback))
        sent = sum(ours.read(delta) for delta in deltas)
        assert torch.allclose(sent + ours.memory.get("delta.residual", 0), sum(deltas), atol=1e-4) == equal


def test_without_feedback_it_never_leaves_the_span_of_its_signs(descend):
    """Karimireddy's counterexample: both sites' gradients have the signs of (1, -1), and the optimum is (1, 1)."""
    rows = [torch.tensor([1.5, -0.5]), torch.tensor([-0.5, 1.5])]
    pulls = [lambda w, a=a: (1 - a @ w) * a for a in rows]
    assert descend(SignSGD(feedback=False), pulls, torch.ones(2)) == pytest.approx(math.sqrt(2), rel=0.01)
    assert descend(SignSGD(feedback=True), pulls, torch.ones(2)) < 0.05


BAD = {
    "negative": (torch.tensor([-1.0]), "negative"),
    "not a number": (torch.tensor([math.nan]), "finite"),
    "infinite": (torch.tensor([math.inf]), "finite"),
    "two scales": (torch.ones(2), "not torch.float32"),
    "another type": (torch.ones(1, dtype=torch.float64), "not torch.float32"),
}


@pytest.mark.parametrize(("scale", "said"), BAD.values(), ids=BAD)
def test_a_scale_that_is_none_is_refused(scale, said):
    bad = Update("a", 1, 1.0, {"delta.signs": torch.zeros(2, dtype=torch.uint8), "delta.scale": scale})
    with pytest.raises(Refused, match=f"sign-sgd.*{said}"):
        SignSGD().enforce(bad, {"delta": (9,)})
