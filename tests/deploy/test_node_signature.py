"""Who has signed a head: the registered, now, once."""

import datetime

import pytest

from consilium.deploy.gateway import Denied, Head, Signatures
from consilium.deploy.gateway import node_authentication as module

NOW = 1_790_000_000.0
N384 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973


def head(fields, call="/v1/fleet/pull-messages"):
    return Head(call, fields, 0)


@pytest.fixture
def node(new_node):
    return new_node()


@pytest.fixture
def known(node):
    return Signatures([node.pem], clock=lambda: NOW)


def refused(known, fields, call="/v1/fleet/pull-messages"):
    with pytest.raises(Denied) as caught:
        known.node(head(fields, call))
    return caught.value


def test_a_registered_node_is_known_by_its_key(known, node):
    assert known.node(head((*node.fields(NOW), (b"content-type", b"x")))) == node.pem.strip()


@pytest.mark.parametrize("behind", [-6, 306, 3600, -3600])
def test_a_time_out_of_flowers_window_is_refused(known, node, behind):
    assert "its time" in refused(known, node.fields(NOW - behind)).reason
    assert known.node(head(node.fields(NOW - 304)))


@pytest.mark.parametrize("stamp", ["", "now", "2026-13-01", "2026-09-21T14:13:20", "0001-01-01T00:00:00+23:59"])
def test_what_is_no_time_is_refused(known, node, stamp):
    assert refused(known, node.fields(NOW, stamp=stamp or " ", signature=node.sign(stamp))).status == 401


def test_the_same_signature_passes_once(known, node):
    fields = node.fields(NOW)
    known.node(head(fields))
    assert "used before" in refused(known, fields).reason


def test_its_other_spelling_is_the_same_signature(known, node):
    """Whoever has (r, s) can write (r, n - s), which verifies as well."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    stamp = datetime.datetime.fromtimestamp(NOW, datetime.UTC).isoformat()
    signature = node.sign(stamp)
    r, s = decode_dss_signature(signature)
    other = encode_dss_signature(r, N384 - s)
    node.key.public_key().verify(other, stamp.encode(), node.rule)
    known.node(head(node.fields(NOW, stamp=stamp, signature=signature)))
    assert "used before" in refused(known, node.fields(NOW, stamp=stamp, signature=other)).reason


def test_two_calls_of_one_microsecond_are_two(known, node):
    known.node(head(node.fields(NOW)))
    assert known.node(head(node.fields(NOW)))


def test_older_than_what_is_remembered_is_refused(known, node, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 3)
    for second in (-9, -8, -7, -6):
        known.node(head(node.fields(NOW + second)))
    assert "used before" in refused(known, node.fields(NOW - 9.5)).reason, "it may have been used"
    assert known.node(head(node.fields(NOW - 6.5))), "a call that was overtaken"
    (_, window), *_ = known._nodes.values()
    assert len(window.times) == len(window.used) == 3


def test_another_key_cannot_sign_in_a_nodes_place(known, node, new_node):
    assert "not its key's" in refused(known, new_node().fields(NOW, pem=node.pem)).reason


@pytest.mark.parametrize("signature", [b"", b"\x30\x00", b"x" * 100])
def test_a_malformed_signature_is_refused(known, node, signature):
    assert refused(known, node.fields(NOW, signature=signature)).status == 401


def test_an_unknown_key_is_told_so_in_flowers_words_when_it_comes(known, new_node):
    stranger = new_node()
    assert refused(known, stranger.fields(NOW)).status == 401
    told = refused(known, stranger.fields(NOW), "/v1/fleet/activate-node")
    assert told.status == 412
    assert b'"code": 2004' in told.body


def test_a_head_without_the_three_fields_or_with_two_of_one_is_refused(known, node):
    fields = node.fields(NOW)
    for some in ((), fields[:2], fields[1:], (*fields, fields[0]), (*fields, fields[2])):
        assert "not signed" in refused(known, some).reason
    assert refused(known, ((b"flwr-public-key", b"!"), *fields[1:])).status == 401


def test_flowers_own_node_signs_what_is_known(new_node):
    pytest.importorskip("flwr", reason="the extra flower is not installed")
    import time

    import httpx
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    node, request = new_node(), httpx.Request("POST", "http://x")
    context = type("Context", (), {"request": request})()
    NodeAuthHttpInterceptor(node.key, node.key.public_key()).intercept(context, lambda _: None)
    fields = tuple((name.lower(), value) for name, value in request.headers.raw)
    assert Signatures([node.pem], clock=time.time).node(head(fields)) == node.pem.strip()
