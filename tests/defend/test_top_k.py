"""Top-k against a dense oracle, its exact bytes, what the server refuses, and why it needs error feedback."""

import numpy as np
import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.update import Update, payload_bytes
from consilium.defend.update.top_k import TopK


def oracle(v, k):
    """The k entries of largest size, the rest zero; v has no two of one size."""
    kept = np.zeros_like(v)
    for i in sorted(range(len(v)), key=lambda i: -abs(v[i]))[:k]:
        kept[i] = v[i]
    return kept


@pytest.mark.parametrize("share", [0.001, 0.02, 0.03, 0.1, 0.5, 1.0])
def test_the_server_reads_the_largest_coordinates(line, draw, share):
    delta = draw(211)
    k = max(1, int(np.ceil(share * 211)))
    message, read = line(TopK(share)).send(delta, buffers=torch.ones(2))
    assert np.array_equal(read.payload["delta"].numpy(), oracle(delta.numpy(), k))
    where = "indices" if 4 * k <= 27 else "mask"
    assert set(message.payload) == {f"delta.{where}", "delta.values", "buffers"}
    assert payload_bytes(message.payload) - 8 == 4 * k + min(4 * k, 27)  # 8 bytes of buffers, ceil(211 / 8) = 27
    assert torch.equal(read.payload["buffers"], torch.ones(2))


def test_error_feedback_against_the_oracle(line, draw):
    """e and what is sent, round by round, in numpy."""
    ours, e = line(TopK(0.1)), np.zeros(50, dtype=np.float32)
    for seed in range(8):
        delta = draw(50, seed)
        sent = oracle(delta.numpy() + e, 5)
        assert np.allclose(ours.read(delta).numpy(), sent, atol=1e-6)
        e = delta.numpy() + e - sent
        assert np.allclose(ours.memory["delta.residual"].numpy(), e, atol=1e-6)


def test_what_was_sent_and_what_is_kept_is_what_was_given(line, draw):
    deltas = [draw(40, seed) for seed in range(20)]
    for feedback, equal in ((True, True), (False, False)):
        ours = line(TopK(0.05, feedback))
        sent = sum(ours.read(delta) for delta in deltas)
        kept = ours.memory.get("delta.residual", torch.zeros(40))
        assert torch.allclose(sent + kept, sum(deltas), atol=1e-5) == equal


def test_without_feedback_what_is_never_largest_is_never_learned(descend):
    """Two sites disagree about one coordinate and agree on nine small ones."""
    small = torch.full((9,), 0.5)
    pulls = [lambda w, big=big: torch.cat([torch.tensor([big]), small]) - w for big in (10.0, -10.0)]
    optimum = torch.cat([torch.zeros(1), small])
    assert descend(TopK(0.1, feedback=False), pulls, optimum) == pytest.approx(1.5, rel=1e-4)
    assert descend(TopK(0.1, feedback=True), pulls, optimum) < 0.2


def message(**parts):
    base = {"delta.indices": torch.tensor([2, 7], dtype=torch.int32), "delta.values": torch.tensor([1.0, -1.0])}
    held = {name: t for name, t in {**base, **parts}.items() if t is not None}
    return Update("site-1", 1, 1.0, held)


EXPECTED = {"delta": (200,)}
BAD = {
    "past the end": ({"delta.indices": torch.tensor([2, 200])}, "out of range"),
    "negative": ({"delta.indices": torch.tensor([-1, 3])}, "out of range"),
    "twice": ({"delta.indices": torch.tensor([7, 7])}, "repeated"),
    "unordered": ({"delta.indices": torch.tensor([7, 2])}, "not ascending"),
    "not a number": ({"delta.values": torch.tensor([1.0, float("nan")])}, "not finite"),
    "infinite": ({"delta.values": torch.tensor([1.0, float("inf")])}, "not finite"),
}


@pytest.mark.parametrize(("parts", "said"), BAD.values(), ids=BAD)
def test_what_no_honest_site_sends_is_refused_by_name(parts, said):
    parts = {name: t.int() if name.endswith("indices") else t for name, t in parts.items()}
    with pytest.raises(Refused, match=f"top-k: delta: .*{said}"):
        TopK(0.01).enforce(message(**parts), EXPECTED)


def test_the_right_message_is_read():
    read = TopK(0.01).enforce(message(), EXPECTED).payload["delta"]
    assert read.shape == (200,) and read[2] == 1 and read[7] == -1 and read.abs().sum() == 2


def test_a_mask_of_another_count_is_refused(line, draw):
    sent, _ = line(TopK(0.5)).send(draw(16))
    mask = sent.payload["delta.mask"].clone()
    mask[0] ^= 1
    bad = Update("site-1", 1, 1.0, {**sent.payload, "delta.mask": mask})
    with pytest.raises(Refused, match="positions for 8 values"):
        TopK(0.5).enforce(bad, {"delta": (16,)})


def test_of_several_equal_sizes_exactly_k_are_sent(line):
    message, read = line(TopK(0.25)).send(torch.ones(40))
    assert int((read.payload["delta"] != 0).sum()) == 10
    assert len(message.payload["delta.values"]) == 10


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_the_share_is_a_share(share):
    with pytest.raises(Refused, match="share"):
        TopK(share)
