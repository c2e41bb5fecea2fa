"""A node pushes replies in its own name: the bytes say so in one way only."""

import pytest

from consilium.deploy.gateway import Denied
from consilium.deploy.gateway.sender import check_sender


def varint(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def block(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def integer(number, value):
    return varint(number << 3) + varint(value)


MINE, OTHER = 2**63 + 5, 7
NODE = block(1, integer(1, MINE))


def message(sender, before=b""):
    return block(
        2, block(1, integer(1, 3) + before + block(2, b"id") + integer(3, sender) + varint(7 << 3 | 1) + b"8bytes!!")
    )


@pytest.mark.parametrize("body", [NODE, NODE + message(MINE), message(MINE) + NODE + message(MINE) + block(3, b"tree")])
def test_what_a_node_sends_of_its_own_passes(body):
    check_sender(bytearray(body))


WRONG = {
    "another's": NODE + message(OTHER),
    "another's beside one's own": NODE + message(MINE) + message(OTHER),
    "nobody's": NODE + block(2, block(1, integer(1, 3))),
    "no metadata": NODE + block(2, b""),
    "two senders": NODE + message(MINE, integer(3, OTHER)),
    "two nodes": NODE + block(1, integer(1, OTHER)) + message(OTHER),
    "a node of two numbers": block(1, integer(1, MINE) + integer(1, OTHER)) + message(OTHER),
    "no node": message(MINE),
    "two metadata": NODE + block(2, block(1, integer(3, MINE)) + block(1, integer(3, OTHER))),
    "cut off": (NODE + message(MINE))[:-1],
    "a million fields": NODE + message(MINE) + integer(9, 0) * 1_000_000,
    "garbage": b"\xff" * 40,
    "a group": b"\x0b\x0c" + NODE,
    "a number of 70 bits": block(1, b"\x08" + b"\xff" * 9 + b"\x7f") + message(2**64 - 1),
    "a sender that is a text": NODE + block(2, block(1, block(3, b"\x05"))),
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_what_is_anothers_or_could_be_read_as_anothers_is_refused(body):
    with pytest.raises(Denied) as caught:
        check_sender(body)
    assert caught.value.status == 400


def test_flowers_own_messages_are_read_as_flower_reads_them():
    fleet = pytest.importorskip("flwr.proto.fleet_pb2", reason="the extra flower is not installed")
    from flwr.proto.message_pb2 import Message, Metadata
    from flwr.proto.node_pb2 import Node

    def request(sender):
        metadata = Metadata(run_id=3, message_id="m", src_node_id=sender, dst_node_id=1, ttl=0.5, message_type="query")
        return fleet.PushMessagesRequest(
            node=Node(node_id=MINE), messages_list=[Message(metadata=metadata)], clientapp_runtime_list=[1.5]
        ).SerializeToString()

    check_sender(request(MINE))
    with pytest.raises(Denied):
        check_sender(request(OTHER))
