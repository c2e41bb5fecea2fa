"""Replies of which a part is still under way: nobody else waits for them, and what never comes is told."""

from types import SimpleNamespace

import pytest

pytest.importorskip("flwr", reason="the extra flower is not installed")

from flwr.app import ConfigRecord, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from consilium.deploy.transport.reply_poller import Replies


class Client:
    """A link at the runtime interface: what it announces once, and which parts it has."""

    def __init__(self):
        self.announced, self.parts, self.gone, self.confirmed, self.asked = [], {}, set(), [], 0
        self.told = set()

    def announce(self, number, text):
        """A reply to message ``number`` whose parts are not there yet; returns those."""
        about = Metadata(7, "", 11, 1, number, "", 1.0, 3600.0, "query")
        reply = make_message(metadata=about, content=RecordDict({"short": ConfigRecord({"answer": text})}))
        reply.metadata.__dict__["_message_id"] = reply.object_id
        self.announced.append((message_to_proto(reply), get_object_tree(reply)))
        return {name: part.deflate() for name, part in get_all_nested_objects(reply).items()}

    def PullMessages(self, request):
        assert not self.told & set(request.message_ids), "the link says of a number that it has told of: never heard"
        told, self.announced = self.announced, []
        self.told |= {message.metadata.reply_to_message_id for message, _ in told}
        return PullAppMessagesResponse(
            messages_list=[message for message, _ in told], message_object_trees=[tree for _, tree in told]
        )

    def PullObject(self, request):
        self.asked += 1
        part = self.parts.get(request.object_id, b"")
        return PullObjectResponse(
            object_found=request.object_id not in self.gone, object_available=part != b"", object_content=part
        )

    def ConfirmMessageReceived(self, request):
        self.confirmed.append(request.message_object_id)


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def replies(client):
    return Replies(SimpleNamespace(node=Node(node_id=1)), client, 7)


def read(messages):
    return {m.metadata.reply_to_message_id: bytes(m.content["short"]["answer"]) for m in messages}


def test_one_that_is_cut_in_mid_way_holds_up_no_other(client, replies):
    slow, quick = client.announce("a", b"of a"), client.announce("b", b"of b")
    first, *rest = slow
    client.parts |= quick | {first: slow[first]}
    assert read(replies.pull_messages(["a", "b"])) == {"b": b"of b"}
    assert rest and len(client.confirmed) == 1
    assert replies.pull_messages(["a"]) == []
    client.parts |= slow
    asked = client.asked
    assert read(replies.pull_messages(["a"])) == {"a": b"of a"}
    assert client.asked - asked == len(rest), "what was there is not asked for again"


def test_one_whose_parts_never_come_is_told_as_lost(client, replies):
    client.gone |= set(client.announce("a", b"of a"))
    (lost,) = replies.pull_messages(["a"])
    assert lost.has_error() and lost.metadata.reply_to_message_id == "a"


def test_one_that_nobody_waits_for_any_more_is_let_go(client, replies):
    client.announce("a", b"of a")
    assert replies.pull_messages(["a"]) == []
    asked = client.asked
    assert replies.pull_messages(["b"]) == [] and client.asked == asked
