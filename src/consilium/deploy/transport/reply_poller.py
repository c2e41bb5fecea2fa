"""Replies as they arrive: one that is still in transit does not delay the others.

Flower announces a reply when its sender starts sending it, and its parts follow in calls of their own.  Its grid
then waits for the parts, for minutes where the sender's network was cut between two of them, and no other site's reply
is read meanwhile, nor the deadline checked.  Here a reply is separate from its announcement: each poll requests the
missing parts once, and an incomplete reply is left for the next poll.

Source: flwr 1.41.0, flwr.superlink.grid.http_grid.HttpGrid.pull_messages
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from consilium.deploy.protocol.framing import Bounds

if TYPE_CHECKING:
    from flwr.app import Message

__all__ = ["Replies"]

_MOST_BYTES = Bounds().bytes


@dataclass
class _Arriving:
    """A reply that was announced: which question it answers, the parts it has, and the names of those it lacks."""

    question: str
    message: str
    missing: list[str]
    parts: dict[str, bytes] = field(default_factory=dict)


class Replies:
    """A Flower grid that differs in how replies are pulled; ``client`` is the grid's own connection to its server."""

    def __init__(self, grid: Any, client: Any, run: int) -> None:
        self._grid, self._client, self._run = grid, client, run
        self._arriving: dict[str, _Arriving] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As the grid does: the number of each message, empty where its node is not there."""
        numbers: Iterable[str] = self._grid.push_messages(messages)
        return numbers

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are there."""
        nodes: Iterable[int] = self._grid.get_node_ids()
        return nodes

    def pull_messages(self, numbers: Sequence[str]) -> list[Message]:
        """The replies to the messages of these ``numbers`` that are complete now; each is returned once."""
        wanted = set(numbers)  # replies that are no longer awaited are dropped
        self._arriving = {name: one for name, one in self._arriving.items() if one.question in wanted}
        arriving = {one.question for one in self._arriving.values()}  # Flower announces a reply once only
        if unannounced := [number for number in numbers if number not in arriving]:
            self._look(unannounced)
        return [message for one in list(self._arriving.values()) if (message := self._take(one)) is not None]

    def _look(self, numbers: Sequence[str]) -> None:
        from flwr.proto.runtime_pb2 import PullAppMessagesRequest
        from flwr.supercore.inflatable.inflatable_object import iterate_object_tree

        reply = self._client.PullMessages(PullAppMessagesRequest(message_ids=numbers))
        for message, tree in zip(reply.messages_list, reply.message_object_trees, strict=True):
            about = message.metadata
            parts = list(dict.fromkeys(part.object_id for part in iterate_object_tree(tree)))
            self._arriving[about.message_id] = _Arriving(about.reply_to_message_id, about.message_id, parts)

    def _take(self, one: _Arriving) -> Message | None:
        """The reply if it is whole, an error in its place if it never will be, else None."""
        whole = self._completed(one)
        if whole is None:
            return None
        del self._arriving[one.message]
        return self._complete(one) if whole else self._lost_notice(one)

    def _completed(self, one: _Arriving) -> bool | None:
        """Request the missing parts: True if none is missing, False if one is lost, None if it may still arrive."""
        from flwr.proto.message_pb2 import PullObjectRequest

        while one.missing:
            name = one.missing[0]
            reply = self._client.PullObject(PullObjectRequest(node=self._grid.node, run_id=self._run, object_id=name))
            if not reply.object_available:
                return None if reply.object_found else False
            one.parts[name] = reply.object_content
            del one.missing[0]
            if sum(map(len, one.parts.values())) > _MOST_BYTES:
                return False
        return True

    def _complete(self, one: _Arriving) -> Message:
        from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
        from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

        node = self._grid.node
        received = ConfirmMessageReceivedRequest(node=node, run_id=self._run, message_object_id=one.message)
        self._client.ConfirmMessageReceived(received)
        inflated: Any = inflate_object_from_contents(one.message, one.parts)
        inflated.metadata.__dict__["_message_id"] = one.message
        whole: Message = inflated
        return whole

    def _lost_notice(self, one: _Arriving) -> Message:
        """The substitute for a reply that cannot be read: its sender was offline so long that Flower deleted it."""
        from flwr.app import Metadata
        from flwr.app.error import Error
        from flwr.app.message import make_message
        from flwr.common.constant import ErrorCode
        from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
        from flwr.supercore.date import now

        node = self._grid.node.node_id
        about = Metadata(self._run, "", node, node, one.question, "", now().timestamp(), 0, SYSTEM_MESSAGE_TYPE)
        error = Error(ErrorCode.MESSAGE_UNAVAILABLE, "its reply arrived in part only; the request is repeated")
        notice: Message = make_message(metadata=about, error=error)
        return notice
