"""One contract for every update codec in the catalogue; studies with them: ``study/test_study_codecs.py``.

Each check has a broken codec that must fail it.  A codec dropped into ``defend/update`` is covered without an edit.
"""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import save
from torch import nn

from consilium.core import catalogue
from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.update import Update, wire_bytes
from consilium.defend.update._codec import Codec

LAYERS = Network(nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 10)))
D = LAYERS.size


def codecs():
    kinds = (catalogue.load_entry(card) for card in catalogue.cards("defend/update"))
    return [kind() for kind in kinds if kind.stage == "compress"]


EVERY = pytest.mark.parametrize("codec", codecs(), ids=lambda c: c.kind())


def given(seed=0, round=1):
    """What SCAFFOLD and FedNova would send: two vectors, running statistics, one number."""
    g = Stream(seed).generator()
    payload = {
        "delta": torch.randn(D, generator=g),
        "control": torch.randn(D, generator=g),
        "buffers": torch.randn(7, generator=g),
        "steps": torch.full((1,), 19.0),
    }
    return Update("site-1", round, 2.0, payload)


EXPECTED = {name: tuple(t.shape) for name, t in given().payload.items()}


def sent(codec, update=None, memory=None, seed=0):
    return codec.protect(update or given(), memory or {}, Stream(seed))


# --- the checks ---------------------------------------------------------------------------------------------------


def reads_what_was_expected(codec):
    """Names, shapes and type of what the server reads; sender, round and weight are as they were."""
    update = given()
    read = codec.enforce(sent(codec)[0], EXPECTED)
    assert {n: (t.shape, t.dtype) for n, t in read.payload.items()} == {
        n: (t.shape, t.dtype) for n, t in update.payload.items()
    }
    assert (read.site, read.round, read.weight) == (update.site, update.round, update.weight)
    assert all(bool(t.isfinite().all()) for t in read.payload.values())
    assert float((read.payload["delta"] * update.payload["delta"]).sum()) > 0


def statistics_and_single_numbers_travel_exactly(codec):
    read = codec.enforce(sent(codec)[0], EXPECTED)
    for name in ("buffers", "steps"):
        assert torch.equal(read.payload[name], given().payload[name])


def is_smaller_in_true_bytes(codec):
    message, _ = sent(codec)
    assert wire_bytes(message.payload) == len(save({n: t.contiguous() for n, t in message.payload.items()}))
    assert wire_bytes(message.payload) < 0.6 * wire_bytes(given().payload)
    assert all(t.dtype in (torch.uint8, torch.int8, torch.int32, torch.float32) for t in message.payload.values())


def loses_nothing_with_feedback(codec):
    """sum of sent + residual = sum of given, for every compressed entry; without feedback nothing is claimed."""
    if not codec.corrects:
        return
    memory, total = {}, {name: torch.zeros(D) for name in ("delta", "control")}
    for number in range(6):
        update = given(number)
        message, memory = sent(codec, update, memory, number)
        read = codec.enforce(message, EXPECTED)
        for name in total:
            total[name] += update.payload[name] - read.payload[name]
    for name, lost in total.items():
        torch.testing.assert_close(memory[f"{name}.residual"], lost, rtol=1e-3, atol=1e-3)


def refuses_what_is_malformed(codec):
    """Each part missing, of another type, one longer, not finite; one part more; and the update not encoded at all."""
    message, _ = sent(codec)
    bad = [given(), replace(message, payload={**message.payload, "delta.more": torch.zeros(1)})]
    for name, tensor in message.payload.items():
        if name in ("buffers", "steps"):
            continue
        others = {k: t for k, t in message.payload.items() if k != name}
        bad.append(replace(message, payload=others))
        for wrong in (tensor.double(), torch.cat([tensor, tensor[:1]]), tensor[None], _poisoned(tensor)):
            bad.append(replace(message, payload={**others, name: wrong}))
    for update in bad:
        try:
            codec.enforce(update, EXPECTED)
        except Refused as error:
            assert codec.kind() in str(error) and "\n" not in str(error)
        else:
            raise AssertionError(f"accepted {[(n, t.dtype, tuple(t.shape)) for n, t in update.payload.items()]}")


def _poisoned(tensor):
    """Not finite where it can be, else of another type."""
    return torch.full_like(tensor, math.nan) if tensor.is_floating_point() else tensor.long()


def survives_any_bytes(codec):
    """Parts of the right type and length with random content: a finite update of the right shape, or a refusal."""
    message, _ = sent(codec)
    g = Stream(3).generator()
    for _ in range(30):
        noise = {
            n: torch.randint(0, 256, (t.numel() * t.element_size(),), dtype=torch.uint8, generator=g)
            .view(t.dtype)
            .view(t.shape)
            for n, t in message.payload.items()
        }
        try:
            read = codec.enforce(replace(message, payload=noise), {n: EXPECTED[n] for n in EXPECTED})
        except Refused:
            continue
        assert {n: tuple(t.shape) for n, t in read.payload.items()} == EXPECTED


def never_believes_a_size(codec):
    """A message for 200 million numbers where 1540 are expected: refused before anything of that size is made."""
    huge = {"delta": (200_000_000,)}
    message, _ = sent(codec, Update("site-1", 1, 1.0, {"delta": given().payload["delta"]}))
    one = next(iter(message.payload))
    bomb = {**message.payload, one: message.payload[one][:1].expand(huge["delta"])}
    try:
        codec.enforce(replace(message, payload=bomb), {"delta": (D,)})
    except Refused as error:
        assert "200000000" in str(error)
    else:
        raise AssertionError("the message's own size was believed")


def forgets_what_is_not_finite(codec):
    """A diverged update is refused by the server, and is not carried on for ever by the site."""
    _, memory = sent(codec)
    update = given(1)
    update.payload["delta"][0] = math.nan
    message, after = sent(codec, update, memory)
    try:
        read = codec.enforce(message, EXPECTED)
    except Refused:
        pass
    else:
        assert not all(bool(t.isfinite().all()) for t in read.payload.values()), "a NaN became a number"
    assert all(bool(t.isfinite().all()) for t in after.values())


def leaves_its_input_alone(codec):
    update, memory = given(), sent(codec)[1]
    before = {**{n: t.clone() for n, t in update.payload.items()}, **{n: t.clone() for n, t in memory.items()}}
    state = torch.get_rng_state()
    message, _ = sent(codec, update, memory)
    again, _ = sent(codec, update, memory)
    assert all(torch.equal(t, before[n]) for n, t in {**update.payload, **memory}.items())
    assert all(torch.equal(t, again.payload[n]) for n, t in message.payload.items())
    assert torch.equal(torch.get_rng_state(), state)


CHECKS = [
    reads_what_was_expected,
    statistics_and_single_numbers_travel_exactly,
    is_smaller_in_true_bytes,
    loses_nothing_with_feedback,
    refuses_what_is_malformed,
    survives_any_bytes,
    never_believes_a_size,
    forgets_what_is_not_finite,
    leaves_its_input_alone,
]


@EVERY
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_codec_contract(check, codec):
    check(codec.made_for(LAYERS))


def test_all_five_are_there():
    assert {c.kind() for c in codecs()} >= {"top-k", "qsgd", "sign-sgd", "power-sgd", "fed-paq"}


# --- broken codecs: each must fail the check named beside it --------------------------------------------------------


@dataclass(frozen=True)
class Half(Codec):
    """A plain float16 codec; the broken ones below differ in one thing each."""

    broken: str = ""

    @classmethod
    def kind(cls):
        return "half"

    @property
    def corrects(self):
        return self.broken == "keeps the wrong residual"

    def wire(self, size):
        return {"half": (torch.uint8, 2 * size)}

    def encode(self, given, kept, generator):
        if self.broken == "writes on its input":
            given.mul_(2)
        return {"half": given.clamp(-6e4, 6e4).half().view(torch.uint8)}, {}

    def decode(self, parts, size):
        value = parts["half"].contiguous().view(torch.float16).float()
        return -value if self.broken == "turns signs" else value

    def protect(self, update, memory, stream):
        message, kept = super().protect(update, memory, stream)
        held = dict(message.payload)
        match self.broken:
            case "compresses statistics":
                held["buffers"] = held["buffers"].half().float()
            case "wide":
                held["delta.half"] = held["delta.half"].double()
            case "keeps the wrong residual":
                kept = {name: tensor + 1 for name, tensor in kept.items()}
            case "keeps NaN":
                kept = {"delta.residual": update.payload["delta"]}
        return replace(message, payload=held), kept

    def enforce(self, update, expected):
        if self.broken == "trusts":
            payload = {n.removesuffix(".half"): t for n, t in update.payload.items()}
            return replace(update, payload=payload)
        if self.broken == "breaks":
            return replace(update, payload={"delta": update.payload["delta.half"][:2].view(torch.float32)})
        return super().enforce(update, expected)


BROKEN = [
    (reads_what_was_expected, "turns signs"),
    (statistics_and_single_numbers_travel_exactly, "compresses statistics"),
    (is_smaller_in_true_bytes, "wide"),
    (loses_nothing_with_feedback, "keeps the wrong residual"),
    (refuses_what_is_malformed, "trusts"),
    (survives_any_bytes, "breaks"),
    (never_believes_a_size, "trusts"),
    (forgets_what_is_not_finite, "keeps NaN"),
    (leaves_its_input_alone, "writes on its input"),
]


@pytest.mark.parametrize(("check", "broken"), BROKEN, ids=lambda v: getattr(v, "__name__", v))
def test_a_broken_codec_fails(check, broken):
    with pytest.raises((AssertionError, RuntimeError, KeyError)):
        check(Half(broken))


def test_every_check_has_a_broken_codec():
    assert {check for check, _ in BROKEN} == set(CHECKS)
