"""Calls to a published port with a key of one's own, another's captured request, or no right at all."""

import sqlite3
import ssl
from pathlib import Path
from types import SimpleNamespace

import httpx
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Metadata, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import DeactivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import get_object_tree
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor


class Intruder:
    """Someone who reaches the port at ``address``."""

    def __init__(self, address, ca):
        self.address, self.ca = address, str(ca)

    def signed(self, key):
        """The fields of a call that the holder of ``key`` makes now, as Flower's own node signs it."""
        private = load_ssh_private_key(Path(key).read_bytes(), None)
        request = httpx.Request("POST", f"https://{self.address}")
        context = SimpleNamespace(request=request)
        NodeAuthHttpInterceptor(private, private.public_key()).intercept(context, lambda _: None)
        return {name: value for name, value in request.headers.items() if name.startswith("flwr-")}

    def call(self, word, message, fields):
        """The status of one call in a connection of its own."""
        fields = {**fields, "content-type": "application/protobuf"}
        with httpx.Client(verify=ssl.create_default_context(cafile=self.ca), timeout=300) as client:
            url = f"https://{self.address}/v1/fleet/{word}"
            return client.post(url, headers=fields, content=message.SerializeToString()).status_code


def heartbeat(node):
    return SendNodeHeartbeatRequest(node=Node(node_id=node), heartbeat_interval=30)


def leave(node):
    return DeactivateNodeRequest(node_id=node)


def pull(node):
    return PullMessagesRequest(node=Node(node_id=node))


def reply(node, sender, question, run):
    """A reply to ``question`` in the name of ``sender``, pushed by ``node``: well-formed, and with nothing in it."""
    about = Metadata(run, "", sender, SUPERLINK_NODE_ID, question, "", now().timestamp(), 60.0, "query")
    made = make_message(metadata=about, content=RecordDict())
    made.metadata.__dict__["_message_id"] = made.object_id
    return PushMessagesRequest(
        node=Node(node_id=node),
        messages_list=[message_to_proto(remove_content_from_message(made))],
        message_object_trees=[get_object_tree(made)],
        clientapp_runtime_list=[1.0],
    )


def stolen_questions(state, node):
    """Numbers and runs of the messages that are on their way to ``node``, read in the server's own files."""
    with sqlite3.connect(f"file:{state}?mode=ro", uri=True) as database:
        signed = node - (1 << 64) if node >= 1 << 63 else node
        rows = database.execute("SELECT message_id, run_id FROM message_ins WHERE dst_node_id = ?", (signed,))
        return [(number, run % (1 << 64)) for number, run in rows.fetchall()]
