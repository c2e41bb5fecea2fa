"""Messages as bytes: what is sent arrives as it was; whatever else comes is refused in one line, or is a message."""

import json
import struct
import tracemalloc

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from consilium.core.algorithm import Broadcast, Server
from consilium.core.errors import Refused
from consilium.core.update import Update
from consilium.deploy.protocol.framing import VERSION, Bounds, Frame, pack, unpack
from consilium.deploy.protocol.messages import (
    Context,
    RefusalMessage,
    StudyRequest,
    decode_assessment,
    decode_broadcast,
    decode_model,
    decode_refusal,
    decode_request,
    decode_update,
    encode_assessment,
    encode_broadcast,
    encode_model,
    encode_refusal,
    encode_request,
    encode_update,
    kind_of,
)
from consilium.federate.client.assessment import Assessment

REQUEST = StudyRequest(
    "private-small", 10, 3, 2, 32, {"kind": "fed-avg", "lr": 0.1}, {"kind": "mlp", "hidden": 16},
    ({"kind": "dp-sgd", "epsilon": 8.0, "betas": (1, 2)},), plan={"seed": 1, "shape": [30]},
)  # fmt: skip
STUDY = REQUEST.digest()
SHAPES = {"delta": (5,), "buffers": (0,)}
HERE = Context(STUDY, 3, shapes=SHAPES)


def update(**changes):
    payload = {"delta": torch.arange(5.0), "buffers": torch.zeros(0)}
    return Update(**{"site": "site-1", "round": 3, "weight": 20.0, "payload": payload} | changes)


def equal(found, wanted):
    return set(found) == set(wanted) and all(
        found[name].dtype == t.dtype and torch.equal(found[name], t) for name, t in wanted.items()
    )


# --- there and back -----------------------------------------------------------------------------------------------


def test_an_update_arrives_as_it_was():
    sealed = decode_update(encode_update(update(), STUDY), HERE)
    assert (sealed.update.site, sealed.update.round, sealed.update.weight) == ("site-1", 3, 20.0)
    assert equal(sealed.update.payload, update().payload)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int16, torch.int8, torch.uint8,
              torch.bool],
)  # fmt: skip
def test_coded_payloads_keep_their_types_and_shapes(dtype):
    payload = {"delta.index": torch.ones(3, 2).to(dtype), "scale": torch.tensor(2.0), "none": torch.zeros(0, 4)}
    data = encode_update(update(payload=payload), STUDY)
    assert equal(decode_update(data, Context(STUDY, 3)).update.payload, payload)


def test_every_update_has_its_own_nonce_and_the_same_bytes_keep_theirs():
    one, two = (encode_update(update(), STUDY) for _ in range(2))
    assert decode_update(one, HERE).nonce == decode_update(one, HERE).nonce != decode_update(two, HERE).nonce
    assert encode_update(update(), STUDY, "ab" * 16) == encode_update(update(), STUDY, "ab" * 16)


def test_a_broadcast_and_a_model_arrive_as_they_were():
    sent = Broadcast(3, torch.arange(4.0), torch.ones(2), {"control": torch.ones(4)})
    got = decode_broadcast(encode_broadcast(sent, STUDY), Context(STUDY, 3))
    assert equal({"p": got.params, "b": got.buffers, **got.extra}, {"p": sent.params, "b": sent.buffers, **sent.extra})
    server = Server(3, sent.params, sent.buffers, {"secret": torch.ones(9)}, 7)
    model = decode_model(encode_model(server, STUDY), Context(STUDY, 3))
    assert (model.round, model.population, dict(model.memory)) == (3, 7, {}) and torch.equal(
        model.params, server.params
    )


def test_notes_arrive_as_they_were():
    for told in (Assessment("a", 9, 0.5, 1.25), Assessment("a", 0, None, None, "the site gives no consent")):
        assert decode_assessment(encode_assessment(told, STUDY, 3), Context(STUDY, 3)) == told
    refusal = RefusalMessage.of(Refused("asks for 8\x1b[31m\nof 5", remedy="ask for less", where="budget"), "a", 2)
    got = decode_refusal(encode_refusal(refusal, STUDY), Context(STUDY))
    assert got == refusal and str(got.error()) == "a.budget: asks for 8 [31m of 5. Ask for less."
    assert kind_of(encode_refusal(refusal, STUDY)) == "refusal"


def test_a_request_arrives_as_it_was_and_its_digest_depends_on_all_of_it():
    got = decode_request(encode_request(REQUEST))
    assert got.digest() == STUDY and got.to_json() == json.loads(json.dumps(REQUEST.to_json()))
    more = StudyRequest(**{**vars(REQUEST), "rounds": 11})
    assert more.digest() != STUDY
    forged = pack(Frame({"kind": "request", "study": STUDY, "request": more.to_json()}, {}))
    with pytest.raises(Refused, match="not the study whose digest it carries"):
        decode_request(forged)


# --- refused by name ----------------------------------------------------------------------------------------------


def head(**changes):
    return {"kind": "update", "study": STUDY, "round": 3, "site": "s", "weight": 1.0, "nonce": "0" * 32} | changes


def frame(tensors=None, **changes):
    whole = {"payload/delta": torch.zeros(5), "payload/buffers": torch.zeros(0)} if tensors is None else tensors
    header = {name: value for name, value in head(**changes).items() if value is not ...}
    return pack(Frame(header, whole))


FLAWED = {
    "truncated": b"CNSL\x01",
    "not a message of Consilium": b"PK\x03\x04" + bytes(20),
    f"version {VERSION + 1}, and this is version": b"CNSL" + struct.pack("<HI", VERSION + 1, 2) + b"{}",
    "a header of 4000000000 bytes": b"CNSL" + struct.pack("<HI", VERSION, 4_000_000_000) + b"{}",
    "and the header ends at": b"CNSL" + struct.pack("<HI", VERSION, 200) + b"{}",
    "header is not JSON": b"CNSL" + struct.pack("<HI", VERSION, 9) + b"\x80\x04\x95abcdef",
    "'kind' is there twice": b"CNSL" + struct.pack("<HI", VERSION, 21) + b'{"kind":1, "kind":22}',
    "it holds NaN": b"CNSL" + struct.pack("<HI", VERSION, 9) + b'{"k":NaN}',
    "beyond what a float64": b"CNSL" + struct.pack("<HI", VERSION, 11) + b'{"k":1e999}',
    "is 'model', not update": frame(kind="model"),
    "is of the study 'f": frame(study="f" * 64),
    "is of round 2, not 3": frame(round=2),
    "has True for round": frame(round=True),
    "has -1 for round": frame(round=-1),
    "holds no weight": frame(weight=...),
    "holds the unknown 'accuracy'": frame(accuracy=0.9),
    "has the weight 0.0": frame(weight=0.0),
    "has the weight -1": frame(weight=-1),
    "has 'heavy' for weight": frame(weight="heavy"),
    "has no nonce": frame(nonce="0" * 31),
    "no printable site": frame(site="a\x1b[2J"),
    "holds the unknown 'payload/x'": frame({"payload/delta": torch.zeros(5), "payload/buffers": torch.zeros(0),
                                            "payload/x": torch.zeros(1)}),
    "holds no payload/buffers": frame({"payload/delta": torch.zeros(5)}),
    r"of shape \(4,\), not \(5,\)": frame({"payload/delta": torch.zeros(4), "payload/buffers": torch.zeros(0)}),
    "not finite in 'payload/delta'": frame({"payload/delta": torch.tensor([0, 1, 2, 3, float("nan")]),
                                            "payload/buffers": torch.zeros(0)}),
}  # fmt: skip


@pytest.mark.parametrize("reason", FLAWED)
def test_what_is_wrong_is_refused_by_name(reason):
    with pytest.raises(Refused, match=reason) as caught:
        decode_update(FLAWED[reason], HERE)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_infinity_and_types_and_counts_are_bounded():
    data = frame({"payload/delta": torch.full((5,), float("inf"), dtype=torch.float16)})
    with pytest.raises(Refused, match="not finite"):
        decode_update(data, Context(STUDY, 3))
    with pytest.raises(Refused, match="type 'F32', which is not read"):
        decode_update(frame(), Context(STUDY, 3, Bounds(dtypes=frozenset({torch.int8}))))
    with pytest.raises(Refused, match="2 tensors are more than 1"):
        decode_update(frame(), Context(STUDY, 3, Bounds(tensors=1)))
    with pytest.raises(Refused, match="bytes are more than the 100"):
        decode_update(frame(), Context(STUDY, 3, Bounds(bytes=100)))
    with pytest.raises(Refused, match="no usable name"):
        decode_update(frame({"payload/../../x": torch.zeros(1)}), Context(STUDY, 3))


def bare(index, body=b""):
    """A message whose tensor part is written by hand."""
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    header = json.dumps(head()).encode()
    return b"CNSL" + struct.pack("<HI", VERSION, len(header)) + header + struct.pack("<Q", len(text)) + text + body


def entry(shape=(1,), offsets=(0, 4), dtype="F32", **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)} | more


TENSORS = {
    "'payload/a' is there twice": (b'{"payload/a":1,"payload/a":2}', b""),
    "overlap or leave gaps": ({"payload/a": entry(), "payload/b": entry()}, bytes(4)),
    "do not end where": ({"payload/a": entry()}, bytes(5)),
    "does not fill its bytes": ({"payload/a": entry((1 << 29,))}, bytes(4)),
    "has no usable shape": ({"payload/a": entry((1 << 62, 0), (0, 0))}, b""),
    "no usable shape": ({"payload/a": entry((-1, -1))}, bytes(4)),
    "usable shape": ({"payload/a": entry((1,) * 9)}, bytes(4)),
    "has the type 'F8_E4M3'": ({"payload/a": entry((4,), dtype="F8_E4M3")}, bytes(4)),
    "is not described": ({"payload/a": entry(code="import os")}, bytes(4)),
    "'__metadata__' is not described": ({"__metadata__": {"format": "pt"}}, b""),
    "index of tensors is not JSON": (b"[" * 100_000, b""),
    "index of tensors is not a JSON object": (b"[]", b""),
}


@pytest.mark.parametrize("reason", TENSORS)
def test_a_forged_index_is_refused_before_tensors_are_made(reason):
    with pytest.raises(Refused, match=reason):
        decode_update(bare(*TENSORS[reason]), Context(STUDY, 3))


def test_the_handwritten_frame_is_lawful_where_nothing_is_wrong():
    """What shows that the cases above fail for their own reason."""
    got = decode_update(bare({"payload/a": entry()}, struct.pack("<f", 2.0)), Context(STUDY, 3)).update.payload
    assert equal(got, {"a": torch.tensor([2.0])})


@pytest.mark.parametrize("length", [1 << 40, (1 << 64) - 1])
def test_a_header_that_claims_terabytes_takes_no_memory(length):
    data = frame()
    at = data.index(save({"payload/buffers": torch.zeros(0), "payload/delta": torch.zeros(5)})[:8])
    with pytest.raises(Refused, match="an index of"):
        decode_update(data[:at] + struct.pack("<Q", length) + data[at + 8 :], HERE)


# --- at random ----------------------------------------------------------------------------------------------------

MESSAGES = [
    (decode_update, encode_update(update(), STUDY, "0" * 32), HERE),
    (decode_update, encode_update(update(), STUDY, "0" * 32), Context(STUDY)),
    (decode_broadcast, encode_broadcast(Broadcast(3, torch.ones(4), torch.ones(2), {"c": torch.ones(4)}), STUDY),
     Context(STUDY, 3)),
    (decode_model, encode_model(Server(3, torch.ones(4), torch.ones(2)), STUDY), Context(STUDY, 3)),
    (decode_assessment, encode_assessment(Assessment("a", 9, 0.5, 1.25), STUDY, 3), Context(STUDY, 3)),
    (decode_refusal, encode_refusal(RefusalMessage("a", 3, "budget", "no"), STUDY), Context(STUDY, 3)),
]  # fmt: skip
PIECES = [b"", b"\x00", b"\xff" * 8, b"NaN", b"1e999", b'"', b"{", b"[" * 2000, b"9" * 5000, b"F64", b"delta", b"\n",
          b"\x1b[2J", b'"kind":"update",']  # fmt: skip


@st.composite
def mutated(draw):
    """One of the messages above, cut, doubled, spliced or with some of its bytes changed."""
    decode, data, context = draw(st.sampled_from(MESSAGES))
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from([0, 1, 2, 8, 40, 10_000])))
        data[at:end] = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=12)))
    return decode, bytes(data), context


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_whatever_comes_is_a_message_or_refused_in_one_line(case):
    decode, data, context = case
    tracemalloc.start()
    try:
        decode(data, context)
    except Refused as error:
        assert str(error).isprintable() and len(str(error)) < 400
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20, "a message of a few kilobytes took a megabyte"


def test_lists_within_the_bounds_of_a_header_take_bounded_memory():
    data = b"CNSL" + struct.pack("<HI", VERSION, 1 << 18) + b'{"a":[' + b"[]," * ((1 << 18) // 3 - 4)
    data = data.ljust(10 + (1 << 18), b" ")
    tracemalloc.start()
    with pytest.raises(Refused):
        unpack(data, Bounds())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_the_memory_check_can_fail():
    tracemalloc.start()
    held = bytearray(2 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(held) <= peak and peak > 1 << 20
